"""Printed intervals hold the truth as often as they say; `python -m bench.coverage` asks all of them, over more data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.coverage import CASES, coverage
from shared_models.metrics.calibration import calibration_line
from shared_models.metrics.calibration_intervals import LIMIT, calibration_cells
from shared_models.metrics.decision import THRESHOLDS, decision_curve, net_benefit
from shared_models.metrics.intervals import delong_interval
from shared_models.metrics.ranking import auroc

SETS = 300
LOOSE = 3.5 * math.sqrt(0.95 * 0.05 / SETS)
QUICK = (
    "accuracy",
    "auroc_newcombe",
    "auroc_delong",
    "slope",
    "kaplan_meier",
    "bias",
    "limit_high",
    "mae",
    "ccc",
    "repeatability",
    "ece",
    "mean_dice",
)


@pytest.mark.parametrize("name", QUICK)
def test_an_interval_covers_what_it_says(name: str) -> None:
    found = coverage(name, 120, SETS)
    assert 0.95 - LOOSE <= found["covered"] <= 0.95 + LOOSE, found
    assert found["undefined"] == 0 and np.isfinite(found["width"])


def test_an_interval_that_is_too_narrow_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = CASES["bias"]

    def narrow(rng: np.random.Generator, n: int) -> tuple[float, tuple[float, float]]:
        truth, (low, high) = whole(rng, n)
        return truth, (low + (high - low) / 8, high - (high - low) / 8)

    monkeypatch.setitem(CASES, "bias", narrow)
    assert coverage("bias", 120, SETS)["covered"] < 0.95 - LOOSE


def test_delong_by_all_pairs_and_where_it_says_nothing() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(50) < 18
    scores = (rng.normal(size=50) + truth).round(1)
    kernel = np.array([[(x > y) + 0.5 * (x == y) for y in scores[~truth]] for x in scores[truth]])
    area, variance = kernel.mean(), kernel.mean(1).var(ddof=1) / 18 + kernel.mean(0).var(ddof=1) / 32
    half = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    slow = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + side * half))) for side in (-1, 1)]
    assert auroc(truth, scores) == pytest.approx(area) and delong_interval(truth, scores) == pytest.approx(slow, abs=1e-9)
    assert delong_interval(truth, truth.astype(float)) is None and delong_interval(truth[:19], scores[:19]) is None


def test_calibration_ends_are_where_the_likelihood_says_so() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1.5, 150)
    y, p = rng.random(150) < 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-x))
    cells, line = calibration_cells(y, p), calibration_line(y, p)
    for name in ("slope", "intercept"):
        assert cells[name]["value"] == line[name] and cells[name]["low"] < line[name] < cells[name]["high"]

    def deviance(a: float, b: float) -> float:
        eta = a + b * x
        return 2 * (np.logaddexp(0, eta) - y * eta).sum()

    grid = np.linspace(-3, 3, 20_001)  # the intercept by looking at all of them
    for end in ("low", "high"):
        b = cells["slope"][end]
        best = min(deviance(a, b) for a in grid[::20])
        near = grid[np.abs(grid - grid[::20][np.argmin([deviance(a, b) for a in grid[::20]])]) < 0.01]
        best = min(best, *(deviance(a, b) for a in near))
        least = min(deviance(a, line["slope"]) for a in grid[::2])
        assert best - least == pytest.approx(LIMIT, abs=2e-3)
        assert deviance(cells["intercept"][end], 1.0) - deviance(line["intercept"], 1.0) == pytest.approx(LIMIT, abs=1e-4)
    assert calibration_cells(np.array([0, 1]), np.array([0.1, 0.9]))["slope"]["value"] is None


def test_net_benefit_is_that_of_counting() -> None:
    rng = np.random.default_rng(2)
    y, p = rng.random(80) < 0.4, rng.random(80).round(2)
    curve = decision_curve(y, p)
    for t, model, everybody in zip(THRESHOLDS, curve["model"], curve["all"], strict=True):
        hits, alarms = sum(a and b >= t for a, b in zip(y, p, strict=True)), sum(not a and b >= t for a, b in zip(y, p, strict=True))
        assert model == pytest.approx(hits / 80 - alarms / 80 * t / (1 - t))
        assert everybody == pytest.approx(net_benefit(y, np.ones(80), np.array([t]))[0])
    assert decision_curve(np.ones(5), p[:5]) is None
