"""Metrics of a prognosis say what their parts say; curves agree with the numbers; a model that only orders states no risk."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.core.errors import BadInput
from shared_models.metrics.horizons import auc_at, brier_at, integrated_brier, uno_rows
from shared_models.metrics.prognosis import compare_prognosis, prognosis_metrics, score_prognosis
from shared_models.metrics.prognosis_curves import describe_prognosis
from shared_models.metrics.spec import ones
from shared_models.survival.life_table import kaplan_meier, life_table

HORIZONS = (1.0, 3.0, 5.0)
RNG = np.random.default_rng(0)
HAZARD = np.exp(RNG.normal(size=90)) / 5
DEATH, LAST = RNG.exponential(1 / HAZARD), RNG.uniform(0.3, 9, 90)
OUTCOMES = np.column_stack([np.minimum(DEATH, LAST), DEATH <= LAST, np.zeros(90)]).astype(float)
RISKS = 1 - np.exp(-HAZARD[:, None] * np.array(HORIZONS))


def test_each_metric_is_what_its_part_says() -> None:
    found = {name: cell["value"] for name, cell in score_prognosis(OUTCOMES, RISKS, HORIZONS, bootstrap=0).items()}
    for place, horizon in enumerate(HORIZONS):
        assert found[f"auc_at_{horizon:g}"] == auc_at(OUTCOMES, RISKS[:, place], ones(90), horizon=horizon)[0]
        assert found[f"brier_at_{horizon:g}"] == brier_at(OUTCOMES, RISKS[:, place], ones(90), horizon=horizon)[0]
    assert found["uno_c"] == uno_rows(OUTCOMES, RISKS[:, -1], ones(90), horizon=5.0)[0]
    assert found["integrated_brier"] == integrated_brier(OUTCOMES, RISKS, np.array(HORIZONS), ones(90))[0]


def test_a_score_that_only_orders_gives_the_same_order_and_no_error() -> None:
    whole = score_prognosis(OUTCOMES, RISKS, HORIZONS, bootstrap=0)
    order = score_prognosis(OUTCOMES, np.log(HAZARD)[:, None], HORIZONS, absolute=False, bootstrap=0)
    assert set(whole) - set(order) == {"brier_at_1", "brier_at_3", "brier_at_5", "integrated_brier"}
    assert all(order[name]["value"] == pytest.approx(whole[name]["value"], abs=1e-12) for name in order)
    drawn = describe_prognosis(OUTCOMES, np.log(HAZARD)[:, None], HORIZONS, absolute=False)
    assert drawn["calibration"] == drawn["decision"] == {} and drawn["roc"] == describe_prognosis(OUTCOMES, RISKS, HORIZONS)["roc"]


def test_intervals_and_differences_resample_patients() -> None:
    twice = np.repeat(np.arange(45), 2).tolist()
    cell = score_prognosis(OUTCOMES, RISKS, HORIZONS, groups=twice, bootstrap=200)["harrell_c"]
    assert cell["low"] < cell["value"] < cell["high"] and cell["n"] == 90 and cell["events"] == int(OUTCOMES[:, 1].sum())
    noise = np.sort(RNG.uniform(0, 1, (90, 3)), axis=1)
    same = compare_prognosis("harrell_c", OUTCOMES, RISKS, [RISKS], HORIZONS, bootstrap=50)
    better = compare_prognosis("harrell_c", OUTCOMES, RISKS, [noise, noise], HORIZONS, bootstrap=200)
    assert (same["value"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert better["low"] is not None and better["low"] > 0


def test_curves_agree_with_the_numbers() -> None:
    drawn, scores = describe_prognosis(OUTCOMES, RISKS, HORIZONS), score_prognosis(OUTCOMES, RISKS, HORIZONS, bootstrap=0)
    for horizon in HORIZONS:
        roc = drawn["roc"][f"{horizon:g}"]
        assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(scores[f"auc_at_{horizon:g}"]["value"], abs=1e-12)
        assert roc["auc"] == scores[f"auc_at_{horizon:g}"]["value"]
        decision = drawn["decision"][f"{horizon:g}"]
        assert len(decision["thresholds"]) == len(decision["model"]) == len(decision["all"])
        calibration = drawn["calibration"][f"{horizon:g}"]
        assert calibration["seen"] == pytest.approx(1 - kaplan_meier(life_table(OUTCOMES[:, 0], OUTCOMES[:, 1])).at(horizon))
    low, _, high = drawn["thirds"]
    assert [third["n"] for third in drawn["thirds"]] == [30, 30, 30] and low["at_risk"][0] == 30
    assert high["survival"][-1] < low["survival"][-1] and high["events"] + low["events"] <= drawn["events"]
    assert drawn["auc"]["values"][-1] == scores["auc_at_5"]["value"]


def test_what_is_no_prognosis_is_refused_and_nobody_is_undefined() -> None:
    with pytest.raises(BadInput, match="one risk a horizon"):
        score_prognosis(OUTCOMES, RISKS[:, :2], HORIZONS)
    with pytest.raises(BadInput, match="probability"):
        score_prognosis(OUTCOMES, RISKS + 1, HORIZONS)
    with pytest.raises(BadInput, match="finite"):
        score_prognosis(OUTCOMES, RISKS * np.nan, HORIZONS)
    assert all(cell["value"] is None for cell in score_prognosis([], [], HORIZONS, bootstrap=10).values())
    assert describe_prognosis([], [], HORIZONS)["thirds"] == []
    assert list(prognosis_metrics([2.0])) == ["harrell_c", "uno_c", "auc_at_2", "brier_at_2"]
