"""Landmarks from summed histograms: any spread of the patients gives the same, close to the percentiles of all voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.core.errors import BadState
from shared_models.harmonisation.landmarks import PERCENTILES, STEP_HU, check, contribution, finish


def lungs(seed: int, count: int = 6, voxels: int = 4000) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(rng.uniform(-880, -780), rng.uniform(30, 90), voxels) for _ in range(count)]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.integers(0, 6))
def test_any_spread_gives_the_percentiles_of_all_voxels(seed: int, cut: int) -> None:
    patients = lungs(seed)
    marks = finish([contribution(patients[:cut]), contribution(patients[cut:])])
    np.testing.assert_allclose(marks, np.percentile(np.concatenate(patients), PERCENTILES), atol=STEP_HU)
    np.testing.assert_allclose(marks, finish([contribution(patients)]), atol=1e-5)
    assert all(b > a for a, b in itertools.pairwise(marks))


def test_a_large_lung_counts_as_one_patient() -> None:
    small, large = np.full(10, -900.0), np.full(10_000, -700.0)
    marks = finish([contribution([small, small, large])])
    assert marks[PERCENTILES.index(60)] < -897 < -703 < marks[PERCENTILES.index(70)]


def test_one_value_and_no_patients() -> None:
    assert np.diff(finish([contribution([np.full(5, -850.0)])])).min() > 0
    with pytest.raises(BadState, match="at least one patient"):
        finish([contribution([])])


@pytest.mark.parametrize("change", [("patients", 99.0), ("histogram", -0.5), ("histogram", np.nan)])
def test_sums_that_no_patients_can_have(change: tuple[str, float]) -> None:
    sums = contribution(lungs(1))
    check(sums)
    sums[change[0]].flat[0] = change[1]
    with pytest.raises(BadState):
        check(sums)
