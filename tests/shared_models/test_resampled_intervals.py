"""Intervals of what is resampled: the formula by hand, the scale kept, and what says nothing; the calibration error freed of its noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from shared_models.metrics import METRICS, score
from shared_models.metrics.calibration import ece
from shared_models.metrics.calibration_error import calibration_error, debiased_ece
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.sensitivity_interval import mean_sensitivity_interval, sensitivity_interval


@pytest.mark.parametrize("scale", ["share", "positive", "difference"])
def test_it_is_the_formula(scale: str) -> None:
    rows = np.random.default_rng(0).normal(0.7, 0.05, 300)
    half = student.ppf(0.975, 29) * rows.std(ddof=1) * np.sqrt(30 / 29)
    to = {"share": lambda v: np.log(v / (1 - v)), "positive": np.log, "difference": lambda v: v}[scale]
    back = {"share": lambda v: 1 / (1 + np.exp(-v)), "positive": np.exp, "difference": lambda v: v}[scale]
    steep = {"share": 1 / (0.7 * 0.3), "positive": 1 / 0.7, "difference": 1.0}[scale]
    slow = [back(to(0.7) + side * half * steep) for side in (-1, 1)]
    with_gaps = np.concatenate([rows, np.full(299, np.nan)])
    for drawn in (rows, with_gaps):
        assert resampled_interval(drawn, 0.7, 30, scale=scale) == pytest.approx(slow, rel=1e-9)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.001, 0.4), st.integers(2, 500), st.sampled_from(["share", "positive"]))
def test_it_stays_on_its_scale_and_mirrors(value: float, spread: float, patients: int, scale: str) -> None:
    rows = value + spread * np.random.default_rng(1).normal(size=50)
    low, high = resampled_interval(rows, value, patients, scale=scale)  # type: ignore[misc, arg-type]
    assert 0 <= low <= value <= high and (scale == "positive" or high <= 1)
    if scale == "share":
        other = resampled_interval(1 - rows, 1 - value, patients)
        assert other is not None and (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-9)


def test_what_says_nothing() -> None:
    rows = np.linspace(0.4, 0.6, 9)
    assert resampled_interval(rows, 0.5, 1) is None and resampled_interval(np.append(rows, [np.nan] * 10), 0.5, 20) is None
    assert resampled_interval(rows, 1.0, 20) is None and resampled_interval(rows, 0.0, 20, scale="positive") is None
    assert resampled_interval(np.full(9, 0.5), 0.5, 20) is None
    assert resampled_interval(np.zeros(9), 0.0, 20, scale="difference") == (0.0, 0.0)


def stated(seed: int, n: int, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1.5, n)
    p = 1 / (1 + np.exp(-x))
    return (rng.random(n) < 1 / (1 + np.exp(-slope * x))).astype(int), np.stack([1 - p, p], 1)


def test_noise_alone_is_no_calibration_error() -> None:
    found = [debiased_ece(*stated(seed, 60), None) for seed in range(40)]
    assert np.median([one["value"] for one in found]) < 0.5 * np.median([one["plain"] for one in found])  # type: ignore[type-var]
    assert np.mean([one["low"] == 0 for one in found]) > 0.85
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in found)  # type: ignore[operator]


def test_with_many_patients_the_plain_error_is_kept_and_copies_add_no_certainty() -> None:
    y, p = stated(0, 20_000, slope=0.3)
    found = debiased_ece(y, p, None)
    assert found["plain"] == pytest.approx(ece(y, p, np.ones((1, y.size)))[0], abs=1e-12)
    assert found["value"] == pytest.approx(found["plain"], abs=0.004) and found["low"] < found["value"] < found["high"]  # type: ignore[operator]
    y, p = stated(1, 300, slope=0.3)
    who = np.repeat(np.arange(300), 4)
    one, four = calibration_error(p[:, 1], y, bins=8), calibration_error(np.repeat(p[:, 1], 4), np.repeat(y, 4), who.tolist(), bins=8)
    naive = calibration_error(np.repeat(p[:, 1], 4), np.repeat(y, 4), bins=8)
    assert [four[end] for end in ("value", "low", "high")] == pytest.approx([one[end] for end in ("value", "low", "high")], abs=0.01)
    assert naive["high"] - naive["low"] < 0.7 * (four["high"] - four["low"])  # type: ignore[operator]


def test_nobody_and_too_few_for_an_interval() -> None:
    assert set(calibration_error(np.zeros(0), np.zeros(0)).values()) == {None}
    few = calibration_error(np.array([0.2, 0.9, 0.4]), np.array([0, 1, 1]), bins=2)
    assert few["value"] is not None and few["low"] is None


def test_one_interval_of_a_sensitivity_everywhere() -> None:
    y, p = stated(2, 120)
    counts = bootstrap_counts(120, 300, groups=list(range(120)), seed=0)
    cell = score(y, p, ["a", "b"], metrics=["sensitivity_at_specificity"], groups=list(range(120)), bootstrap=300)["sensitivity_at_specificity"]
    assert (cell["low"], cell["high"]) == mean_sensitivity_interval(y, p, counts)
    each = [sensitivity_interval(y == c, p[:, c], counts) for c in (0, 1)]
    assert min(one[0] for one in each if one) < cell["low"] < cell["value"] < cell["high"] < max(one[1] for one in each if one)
    strict = METRICS["sensitivity_at_specificity"].interval
    assert strict is not None and strict(y, p, counts, specificity=0.5) != (cell["low"], cell["high"])
    assert mean_sensitivity_interval(np.zeros(4, int), np.ones((4, 2)) / 2, np.ones((3, 4))) is None
