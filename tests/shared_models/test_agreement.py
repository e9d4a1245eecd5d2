"""Intervals of agreement: they hold the truth as often as they say, and repeatability is that of the errors that were planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from client.hrct.quantities import BINS
from shared_models.core.errors import BadInput
from shared_models.experiment import Data
from shared_models.metrics.agreement import agreement_of, bland_altman, change_limit, concordance, repeatability
from shared_models.metrics.segmentation import EXTENT_BINS_PERCENT, extent_agreement
from shared_models.patterns import PATTERNS
from sim.extents import part_agreement


def ends(cell: dict[str, float | int | None]) -> tuple[float, float, float]:
    low, value, high = cell["low"], cell["value"], cell["high"]
    assert low is not None and value is not None and high is not None
    return low, value, high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    n, times, bias, error, spread = 40, 400, 1.5, 2.0, 10.0
    true = {"bias": bias, "limit_low": bias - 1.96 * error, "limit_high": bias + 1.96 * error}
    true["ccc"] = 2 * spread**2 / (2 * spread**2 + error**2 + bias**2)
    true["mae"] = float(np.abs(rng.normal(bias, error, 200_000)).mean())
    held: dict[str, int] = dict.fromkeys(true, 0)
    for _ in range(times):
        a = rng.normal(20, spread, n)
        found = agreement_of(a, a + rng.normal(bias, error, n))
        for name, value in true.items():
            cell = found[name]
            low, middle, high = ends(cell)
            assert low <= middle <= high
            held[name] += low <= value <= high
    assert all(0.91 <= count / times <= 0.985 for count in held.values()), held


def test_figures_are_those_of_their_own_functions_and_few_cases_are_undefined() -> None:
    a, b = np.array([5, 10, 20, 30, 40.0]), np.array([7, 11, 24, 31, 45.0])
    found, limits = agreement_of(a, b), bland_altman(a, b)
    assert limits is not None and found["ccc"]["value"] == concordance(a, b)
    assert (found["bias"]["value"], found["limit_low"]["value"], found["limit_high"]["value"]) == pytest.approx(tuple(limits.values()))
    assert change_limit(found) == pytest.approx(1.96 * math.sqrt(2) * float((b - a).std(ddof=1)))
    assert all(cell["value"] is None for cell in agreement_of([1.0], [2.0]).values()) and change_limit({}) is None
    assert agreement_of(a, a)["ccc"] == {"value": 1.0, "low": None, "high": None, "n": 5}
    with pytest.raises(BadInput):
        agreement_of([1, 2], [1])


def test_repeatability_of_planted_errors() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 50, 5000)
    found = repeatability(truth + rng.normal(0, 1.5, 5000), truth + rng.normal(0, 1.5, 5000))
    low, value, high = ends(found)
    assert value == pytest.approx(1.96 * math.sqrt(2) * 1.5, rel=0.03) and low < value < high
    assert repeatability([1.0], [1.0])["value"] is None


def test_parts_add_up_the_classes_that_they_are_made_of() -> None:
    data = Data.model_validate({"target": "segmentation", "classes": list(PATTERNS)})
    tables = np.random.default_rng(2).integers(0, 40, (9, 8, 8))
    found, classes = part_agreement(tables, data), extent_agreement(tables, data.classes)
    assert found["honeycombing"]["mae"]["value"] == pytest.approx(classes["honeycombing"]["mae"])
    fibrotic = sum(classes[name]["bias"] or 0.0 for name in ("reticulation", "honeycombing", "ggo_reticulation"))
    assert found["fibrosis"]["bias"]["value"] == pytest.approx(fibrotic)
    assert found["fibrosis"]["kappa"] is None or -1 <= found["fibrosis"]["kappa"] <= 1  # None where all lie in one bin
    spread = np.array([[[100 - extent, 0], [0, extent]] for extent in (1, 10, 40)])
    two = Data.model_validate({"target": "segmentation", "classes": ["normal", "ggo"]})
    assert part_agreement(spread, two)["ggo"]["kappa"] == extent_agreement(spread, two.classes)["ggo"]["kappa"] == 1.0
    assert tuple(upper for upper, _ in BINS[:-1]) == EXTENT_BINS_PERCENT  # the bins that a prediction names
