"""Fuzzy c-means on histograms: the objective never rises, counting is the slow way, and sums of sites are the pooled fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.blocks.fuzzy import first_centres, fit_fuzzy, fuzzy_sums, memberships, next_centres
from shared_models.core.errors import BadInput, BadState

LEVELS = np.arange(-1024.0, 201.0)


def counted(values: np.ndarray) -> np.ndarray:
    return np.bincount(values.astype(int) + 1024, minlength=len(LEVELS))


def slow(values: np.ndarray, centres: np.ndarray, m: float, tolerance: float) -> np.ndarray:
    """Voxel by voxel, as in the book."""
    centres = np.sort(centres).astype(float)
    while True:
        u = np.zeros((len(centres), len(values)))
        for k, x in enumerate(values):
            for i, v in enumerate(centres):
                if x == v:
                    u[:, k] = 0
                    u[i, k] = 1
                    break
                u[i, k] = 1 / sum((abs(x - v) / abs(x - w)) ** (2 / (m - 1)) if x != w else np.inf for w in centres)
        moved = np.array([(u[i] ** m * values).sum() / (u[i] ** m).sum() for i in range(len(centres))])
        if np.abs(moved - centres).max() <= tolerance:
            return moved
        centres = moved


def two_tissues(seed: int, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(np.concatenate([rng.normal(-850, 40, n), rng.normal(30, 40, n // 2)])), -1024, 200)


@pytest.mark.parametrize("m", [1.7, 2.0, 3.0])
def test_histogram_equals_voxel_by_voxel(m: float) -> None:
    values = two_tissues(0, 60)
    start = np.array([-1000.0, -500.0, 100.0])
    fast = fit_fuzzy([counted(values)], LEVELS, start, fuzzifier=m, tolerance=1e-6, steps=2000).centres
    np.testing.assert_allclose(fast, slow(values, start, m, 1e-6), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=12, max_size=12).filter(lambda c: sum(n > 0 for n in c) >= 4),
    st.integers(2, 4),
    st.floats(1.3, 4.0),
)
def test_objective_never_rises_and_memberships_sum_to_one(counts: list[int], clusters: int, m: float) -> None:
    levels = np.arange(12.0) ** 1.5
    fit = fit_fuzzy([np.array(counts)], levels, first_centres(np.array(counts), levels, clusters), fuzzifier=m, steps=40)
    objective = np.array(fit.objectives)
    assert (np.diff(objective) <= 1e-9 * np.maximum(objective[:-1], 1)).all()
    np.testing.assert_allclose(memberships(levels, fit.centres, fuzzifier=m).sum(axis=0), 1, atol=1e-12)


def test_two_tissues_are_recovered() -> None:
    centres = fit_fuzzy([counted(two_tissues(1, 20000))], LEVELS, np.array([-1000.0, 200.0]), fuzzifier=2.0).centres
    np.testing.assert_allclose(centres, [-850, 30], atol=0.05 * 40)


def test_sums_of_sites_equal_the_pooled_fit() -> None:
    sites = [counted(two_tissues(seed, 300 * (seed + 1))) for seed in range(4)]
    start = np.array([-1000.0, -500.0, 100.0])
    together = fit_fuzzy(sites, LEVELS, start, tolerance=1e-9, steps=500).centres
    pooled = fit_fuzzy([np.sum(sites, axis=0)], LEVELS, start, tolerance=1e-9, steps=500).centres
    np.testing.assert_allclose(together, pooled, rtol=0, atol=1e-8)
    alone = fit_fuzzy([sites[0]], LEVELS, start, tolerance=1e-9, steps=500).centres
    assert np.abs(alone - pooled).max() > 1e-3


def test_a_value_on_two_equal_centres_is_shared() -> None:
    u = memberships(np.array([5.0]), np.array([5.0, 5.0, 9.0]))
    assert u.ravel().tolist() == [0.5, 0.5, 0.0]


def test_too_few_values_and_sums_of_nothing_are_named() -> None:
    with pytest.raises(BadInput, match="different grey values"):
        first_centres(np.array([4, 0, 3]), np.arange(3.0), 3)
    with pytest.raises(BadState, match="must come from voxels"):
        next_centres(fuzzy_sums(np.zeros(3, int), np.arange(3.0), np.array([0.0, 1.0])))
