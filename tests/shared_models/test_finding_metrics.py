"""Metrics of several findings: against the slow way, and what calling everything absent reaches."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.core.errors import BadInput
from shared_models.metrics.findings import FINDING_METRICS, compare_findings, score_findings
from shared_models.metrics.ranking import auroc

FINDINGS = ["a", "b", "c"]


def cohort(seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.uniform(size=(count, 3)) < [0.5, 0.2, 0.05]).astype(float)
    told = np.clip(0.25 + 0.4 * truth + rng.normal(0, 0.25, truth.shape), 0, 1)
    truth[rng.uniform(size=truth.shape) < 0.15] = np.nan
    return truth, told


def test_every_metric_is_that_of_the_slow_way() -> None:
    truth, told = cohort()
    found = {name: cell["value"] for name, cell in score_findings(truth, told, FINDINGS, bootstrap=0).items()}
    each = [auroc(truth[known, k], told[known, k]) for k in range(3) if (known := ~np.isnan(truth[:, k])).any()]
    assert found["auroc_macro"] == pytest.approx(np.mean(each))
    assert [found[f"auroc_{name}"] for name in FINDINGS] == pytest.approx(each)
    whole = [row for row in range(len(truth)) if not np.isnan(truth[row]).any()]
    assert found["subset_accuracy"] == pytest.approx(np.mean([all((told[row] >= 0.5) == truth[row]) for row in whole]))
    assert found["subset_accuracy_all_absent"] == pytest.approx(np.mean([not truth[row].any() for row in whole]))
    known = ~np.isnan(truth)
    assert found["right_answers"] == pytest.approx(((told >= 0.5) == truth)[known].mean())
    assert found["right_answers_all_absent"] == pytest.approx(1 - truth[known].mean())


def test_rare_findings_make_calling_nothing_look_good() -> None:
    truth, nothing = (np.random.default_rng(0).uniform(size=(200, 17)) < 0.05).astype(float), np.zeros((200, 17))
    found = {name: cell["value"] for name, cell in score_findings(truth, nothing, [f"f{k}" for k in range(17)], bootstrap=0).items()}
    assert found["right_answers"] == found["right_answers_all_absent"] > 0.94
    assert found["subset_accuracy"] < 0.5 and found["auroc_macro"] == 0.5


def test_intervals_resample_patients_and_pairs_cancel() -> None:
    truth, told = cohort()
    twice = score_findings(np.repeat(truth, 2, 0), np.repeat(told, 2, 0), FINDINGS, groups=np.repeat(np.arange(60), 2).tolist(), bootstrap=200)
    once = score_findings(truth, told, FINDINGS, groups=list(range(60)), bootstrap=200)
    for name in FINDING_METRICS:
        assert [twice[name][key] for key in ("value", "low", "high")] == pytest.approx([once[name][key] for key in ("value", "low", "high")])
        assert once[name]["low"] <= once[name]["value"] <= once[name]["high"]
    same = compare_findings(truth, told, [told, told], "auroc_macro", bootstrap=50)
    assert (same["value"], same["low"], same["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("truth", "told"), [([[2, 0]], [[0.5, 0.5]]), ([[1, 0]], [[1.5, 0.5]]), ([[1, 0]], [[0.5, 0.5], [0.5, 0.5]])])
def test_what_is_no_finding_is_refused(truth: list, told: list) -> None:
    with pytest.raises(BadInput):
        score_findings(truth, told, ["a", "b"])
