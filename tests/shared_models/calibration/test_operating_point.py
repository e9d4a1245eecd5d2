"""The frozen operating point: exact to a cell, never better than the patients say, and judged on others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.phases import phase_conflicts
from shared_models.calibrated import calibration_facts
from shared_models.calibration.operating_point import POSITIVE, REST, OperatingPoint, operating_point
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Data, Experiment
from sim.operating import point_cells


def patients(count: int, seed: int, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of two classes of which the second is `apart` standard deviations higher."""
    rng = np.random.default_rng(seed)
    y = (rng.random(count) < 0.4).astype(int)
    return np.stack([np.zeros(count), rng.normal(size=count) + apart * y - 1], axis=1), y


def frozen(fit: OperatingPoint, sites: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    return fit.combine(fit.start(2), [fit.contribution({}, x, y, seed=0) for x, y in sites], [1.0] * len(sites))


def split(x: np.ndarray, y: np.ndarray, parts: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x[i::parts], y[i::parts]) for i in range(parts)]


@pytest.mark.parametrize("specificity", [0.6, 0.85, 0.95])
def test_the_threshold_is_that_of_all_patients_in_one_place_to_a_cell(specificity: float) -> None:
    x, y = patients(1200, 3)
    fit = operating_point(2, specificity=specificity, cells=500, least=1)
    state = frozen(fit, split(x, y, 4))
    rest = np.sort(fit.scores(x)[y == 0])
    exact = rest[math.ceil((len(rest) + 1) * specificity) - 1]
    assert exact <= state["threshold"][0] <= exact + 1 / 500
    called = fit.calls(state, x)
    shares = fit.shares(state)
    assert shares["specificity"] == (int((~called[y == 0]).sum()), len(rest)) and shares["specificity"][0] / len(rest) >= specificity
    assert shares["sensitivity"] == (int(called[y == 1].sum()), int((y == 1).sum()))


def test_new_patients_keep_the_specificity() -> None:
    fit = operating_point(2)
    held = []
    for seed in range(40):
        state = frozen(fit, split(*patients(150, seed), 3))
        x, y = patients(2000, 1000 + seed)
        held.append(1 - fit.calls(state, x)[y == 0].mean())
    assert 0.85 <= np.mean(held) <= 0.97  # cells of few patients move the threshold up, never down


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200), st.integers(2, 5), st.integers(1, 9))
def test_what_is_stated_is_never_better_than_the_patients(seed: int, count: int, sites: int, least: int) -> None:
    x, y = patients(count, seed)
    fit = operating_point(2, cells=50, least=least)
    parts = split(x, y, sites)
    state = frozen(fit, parts)
    called = fit.calls(state, x)
    told = fit.shares(state)
    for cells in (fit.contribution({}, *part, seed=0)["cells"] for part in parts):
        assert not ((cells > 0) & (cells < least)).any()
    # of the patients whom sites with enough of them counted
    counted = [(x[i::sites], y[i::sites]) for i in range(sites)]
    above = sum(int(fit.calls(state, a)[b == 1].sum()) for a, b in counted if (b == 1).sum() >= least)
    below = sum(int((~fit.calls(state, a)[b == 0]).sum()) for a, b in counted if (b == 0).sum() >= least)
    assert told["sensitivity"][0] <= above and told["specificity"][0] <= below
    assert told["specificity"][1] <= int((~y.astype(bool)).sum()) and called.shape == (count,)


def test_too_few_patients_call_nobody() -> None:
    x, y = patients(12, 1)[0], np.repeat([0, 1], [5, 7])  # five would have to hold the sixth at 85 %
    state = frozen(operating_point(2), [(x, y)])
    assert state["threshold"][0] == 1 and not operating_point(2).calls(state, patients(50, 2)[0] * 100).any()


def test_one_class_against_several() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 4)), rng.integers(0, 4, 600)
    x[np.arange(600), y] += 2
    fit = operating_point(4, label=2, least=1)
    state = frozen(fit, split(x, y, 3))
    assert state["rest"][0] == (y != 2).sum() and state["positives"][0] == (y == 2).sum()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(fit.scores(x), p[:, 2])
    cells = fit.contribution({}, x, y, seed=0)["cells"]
    assert cells[REST].sum() == (y != 2).sum() and cells[POSITIVE].sum() == (y == 2).sum()


def asked(*calibrations: Choice, **sections: Any) -> Experiment:
    return Experiment(name="x", data=Data(classes=("rest", "UIP")), model=Choice(name="mil_cnn"), calibration=calibrations, **sections)


def test_what_does_not_go_together_is_named() -> None:
    point = Choice(name="operating_point")
    assert phase_conflicts(asked(Choice(name="temperature"), point)) == []
    (conflict,) = phase_conflicts(asked(point, Choice(name="temperature")))
    assert "name temperature before operating_point" in str(conflict)
    (conflict,) = phase_conflicts(asked(Choice.model_validate({"name": "operating_point", "label": 2})))
    assert "one of 2 classes" in str(conflict)
    with pytest.raises(BadChoice, match="numbered from 0"):
        operating_point(2, label=2)


def test_a_card_says_threshold_and_counts() -> None:
    x, y = patients(600, 5)
    fit = operating_point(2)
    state = {f"calibration/operating_point/{key}": value for key, value in frozen(fit, split(x, y, 3)).items()}
    facts = calibration_facts(asked(Choice.model_validate({"name": "operating_point", "specificity": 0.85})), state)["operating_point"]
    assert facts["specificity"] == 0.85 and 0 < facts["threshold"] < 1 and facts["rest_below"] >= 0.85 * facts["rest"]


def test_shares_on_a_hospital_have_intervals() -> None:
    cells = point_cells(np.array([1, 1, 1, 1]), np.array([True, True, True, False]), 1)
    assert cells["sensitivity_at_operating_point"]["value"] == 0.75 and cells["sensitivity_at_operating_point"]["low"] < 0.75
    assert cells["specificity_at_operating_point"] == {"value": None, "low": None, "high": None, "n": 0}
