"""Harrell's C: the pairs counted one by one, lifelines' value, strata kept apart, and what is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index

from shared_models.core.errors import BadInput
from shared_models.metrics.survival import harrell_rows, score_survival


def slow_c(outcomes: np.ndarray, scores: np.ndarray) -> float:
    right = pairs = 0.0
    for (ti, ei, si), a in zip(outcomes, scores, strict=True):
        for (tj, ej, sj), b in zip(outcomes, scores, strict=True):
            if si == sj and ei == 1 and (ti < tj or (ti == tj and ej == 0)):
                pairs += 1
                right += 1.0 if a > b else 0.5 if a == b else 0.0
    return right / pairs if pairs else float("nan")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 25), st.integers(1, 3))
def test_it_counts_the_pairs(seed: int, count: int, strata: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = np.column_stack([rng.integers(1, 8, count), rng.integers(0, 2, count), rng.integers(0, strata, count)]).astype(float)
    scores = rng.integers(0, 4, count).astype(float)
    np.testing.assert_allclose(harrell_rows(outcomes, scores, np.ones((1, count)))[0], slow_c(outcomes, scores))
    counts = rng.integers(0, 3, (2, count)).astype(float)
    for row, drawn in zip(harrell_rows(outcomes, scores, counts), counts.astype(int), strict=True):
        chosen = np.repeat(np.arange(count), drawn)
        np.testing.assert_allclose(row, slow_c(outcomes[chosen], scores[chosen]))


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_lifelines_within_one_stratum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = np.column_stack([rng.integers(1, 60, 200), rng.integers(0, 2, 200), np.zeros(200)]).astype(float)
    scores = rng.integers(0, 30, 200).astype(float)
    theirs = concordance_index(outcomes[:, 0], -scores, outcomes[:, 1])
    found = score_survival(outcomes, scores, bootstrap=200)["harrell_c"]
    assert found["value"] == pytest.approx(theirs, abs=1e-12)
    assert found["low"] < found["value"] < found["high"]
    assert (found["n"], found["events"]) == (200, outcomes[:, 1].sum())


def test_what_is_undefined_is_none() -> None:
    assert score_survival([[1, 0, 0], [2, 0, 0]], [1, 2], bootstrap=5)["harrell_c"]["value"] is None
    assert score_survival(np.zeros((0, 3)), [], bootstrap=0)["harrell_c"] == {"value": None, "low": None, "high": None, "n": 0, "events": 0}


@pytest.mark.parametrize(("outcomes", "scores"), [([[1, 2, 0]], [1]), ([[np.nan, 1, 0]], [1]), ([[1, 1, 0]], [np.inf]), ([[1, 1, 0]], [1, 2])])
def test_what_cannot_be_scored_is_refused(outcomes: list[list[float]], scores: list[float]) -> None:
    with pytest.raises(BadInput):
        score_survival(outcomes, scores, bootstrap=0)
