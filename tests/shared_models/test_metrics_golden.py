"""Numbers worked out by hand, and the same numbers from scikit-learn and scipy."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from shared_models.core.errors import BadChoice, BadInput
from shared_models.metrics import METRICS, describe_predictions, score
from shared_models.metrics.agreement import bland_altman, concordance, icc_2_1, quadratic_kappa
from shared_models.metrics.calibration import brier, calibration_line, expected_calibration_error, fit_temperature, with_temperature
from shared_models.metrics.classification import confusion_matrix
from shared_models.metrics.intervals import clopper_pearson, delong_test, delong_variance, newcombe_auroc, wilson
from shared_models.metrics.ranking import auroc, average_precision, roc_points, sensitivity_at
from shared_models.metrics.segmentation import dice, volume_bias

TRUTH = np.array([0, 0, 1, 1, 1, 0])
SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.4, 0.2])
READER_A, READER_B = [5, 10, 20, 30, 40], [7, 11, 24, 31, 45]


def test_ranking_of_six_cases():
    assert auroc(TRUTH, SCORES) == pytest.approx(5 / 6, abs=1e-12)
    assert delong_variance(TRUTH, SCORES) == pytest.approx(1 / 27, abs=1e-12)
    assert average_precision(TRUTH, SCORES) == pytest.approx(29 / 36, abs=1e-12)


def test_calibration_of_six_cases():
    two = np.stack([1 - SCORES, SCORES], axis=1)
    assert brier(TRUTH, two, np.ones((1, 6)))[0] == pytest.approx(0.1720833333, abs=1e-9)
    assert expected_calibration_error(TRUTH, SCORES, bins=5) == pytest.approx(0.1583333333, abs=1e-9)


def test_shares():
    assert wilson(24, 29) == pytest.approx((0.65452, 0.92402), abs=5e-6)
    assert clopper_pearson(24, 29) == pytest.approx((0.642, 0.942), abs=5e-4)
    assert clopper_pearson(15, 18) == pytest.approx((0.59, 0.96), abs=5e-3)
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)), abs=1e-9)
    assert wilson(0, 0) is None and clopper_pearson(0, 0) is None
    with pytest.raises(BadInput):
        wilson(3, 2)


def test_agreement_of_two_readers():
    assert concordance(READER_A, READER_B) == pytest.approx(0.973903, abs=5e-7)
    limits = bland_altman(READER_A, READER_B)
    assert (limits["bias"], limits["low"], limits["high"]) == pytest.approx((2.6, -0.961, 6.161), abs=5e-4)
    # Shrout & Fleiss 1979, tables 2 and 4
    assert icc_2_1([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]) == pytest.approx(0.29, abs=5e-3)
    assert concordance([1, 1], [1, 1]) is None and bland_altman([1], [2]) is None and icc_2_1([[1, 2]]) is None
    assert icc_2_1([[1, 1], [1, 1]]) is None and quadratic_kappa([1, 1], [1, 1], grades=3) is None


def test_quadratic_kappa_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    assert quadratic_kappa(a, b, grades=4) == pytest.approx(reference.cohen_kappa_score(a, b, weights="quadratic"), abs=1e-12)
    with pytest.raises(BadInput):
        quadratic_kappa([0, 5], [0, 1], grades=3)


def test_masks():
    a, b = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    assert dice(a, b) is None and volume_bias(a, b) is None
    a[0], b[0, :2] = 1, 1
    assert dice(a, b) == pytest.approx(2 * 8 / 20)
    assert volume_bias(a, b) == pytest.approx(0.5)
    assert dice(a, b, label=2) is None
    with pytest.raises(BadInput):
        dice(a, b[:1])


def _predictions(k, n=60, seed=3):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
    logits = rng.normal(size=(n, k)) + 1.2 * np.eye(k)[labels]
    p = np.exp(logits.round(1))  # rounding makes ties
    return labels, p / p.sum(axis=1, keepdims=True)


def _macro_sensitivity(y, p):
    found = []
    for c in range(p.shape[1]):
        fpr, tpr, _ = reference.roc_curve(y == c, p[:, c])
        found.append(tpr[fpr <= 0.1 + 1e-12].max())
    return np.mean(found)


def _slow_ece(y, p):
    """By the definition, one case at a time; ties share the bin of their first rank."""
    p, true = (p[:, 1], y == 1) if p.shape[1] == 2 else (p.max(1), p.argmax(1) == y)
    bins, order = min(10, len(y) // 10), sorted(p)
    held = {}
    for value, hit in zip(p, true, strict=True):
        held.setdefault(order.index(value) * bins // len(y), []).append(value - hit)
    return sum(abs(sum(gaps)) for gaps in held.values()) / len(y)


REFERENCE = {
    "auroc_macro": lambda y, p: np.mean([reference.roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1])]),
    "auprc_macro": lambda y, p: np.mean([reference.average_precision_score(y == c, p[:, c]) for c in range(p.shape[1])]),
    "balanced_accuracy": lambda y, p: reference.balanced_accuracy_score(y, p.argmax(1)),
    "accuracy": lambda y, p: reference.accuracy_score(y, p.argmax(1)),
    "mean_recall": lambda y, p: reference.recall_score(y, p.argmax(1), average="macro"),
    "macro_f1": lambda y, p: reference.f1_score(y, p.argmax(1), average="macro"),
    "sensitivity_at_specificity": _macro_sensitivity,
    "brier": lambda y, p: reference.brier_score_loss(y, p[:, 1]) if p.shape[1] == 2 else np.mean(((p - np.eye(p.shape[1])[y]) ** 2).sum(1)),
    "log_loss": lambda y, p: reference.log_loss(y, p),
    "ece": _slow_ece,
}


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_equals_its_reference(name, k):
    labels, p = _predictions(k)
    found = score(labels, p, list("abcde")[:k], metrics=[name], bootstrap=0)[name]
    # The printed ECE is debiased; what the reference computes stands beside it.
    assert found.get("plain", found["value"]) == pytest.approx(REFERENCE[name](labels, p), abs=1e-12)
    assert found["n"] == 60 and found["low"] is None


@pytest.mark.parametrize("name", list(METRICS))
def test_counts_are_the_same_as_repeating_cases(name):
    """The heart of the fast bootstrap: a case that counts c times is c copies of it."""
    labels, p = _predictions(3, n=40)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=6).astype(float)
    counts[:, :3] += 1  # every class is there
    function = METRICS[name].function
    if name == "ece":  # its bins are laid over the sample once; equal-width ones do not move with it
        knobs = {"equal_mass": False}
    else:
        knobs = {}
    fast = function(labels, p, counts, **knobs)
    repeats = [np.repeat(np.arange(40), row.astype(int)) for row in counts]
    slow = [function(labels[r], p[r], np.ones((1, r.size)), **knobs)[0] for r in repeats]
    assert fast == pytest.approx(np.array(slow), abs=1e-12)


def test_the_class_entries_are_one_against_the_rest():
    labels, p = _predictions(3)
    found = score(labels, p, ["normal", "UIP", "NSIP"], bootstrap=0)
    for c, name in enumerate(["normal", "UIP", "NSIP"]):
        assert found[f"auroc_{name}"]["value"] == pytest.approx(reference.roc_auc_score(labels == c, p[:, c]), abs=1e-12)


def test_unknown_metrics_and_bad_predictions_are_refused():
    good = [[0.5, 0.5], [0.2, 0.8]]
    with pytest.raises(BadChoice, match="did you mean 'accuracy'"):
        score([0, 1], good, ["a", "b"], metrics=["acuracy"])
    faults = [([0, 2], good), ([0, -1], good), ([0], good), ([0, 1], [[0.5, 0.4], [0.2, 0.8]]), ([0, 1], [[math.nan, 1], [0, 1]]), (["a", "c"], good)]
    faults += [([0.0, 1.0], good), ([0, 1], [[-0.5, 1.5], [0.2, 0.8]])]
    for labels, p in faults:
        with pytest.raises(BadInput):
            score(labels, p, ["a", "b"])
    for classes in (["a"], ["a", "a"], ["a", "macro"]):
        with pytest.raises(BadInput):
            score([0, 0], np.full((2, len(classes)), 1 / len(classes)), classes)


def test_knobs_reach_a_metric():
    from shared_models.core.choices import Choice

    labels, p = _predictions(2)
    strict = score(labels, p, ["a", "b"], metrics=[Choice(name="sensitivity_at_specificity", specificity=0.99)], bootstrap=0)
    mild = score(labels, p, ["a", "b"], metrics=[Choice(name="sensitivity_at_specificity", specificity=0.5)], bootstrap=0)
    assert strict["sensitivity_at_specificity"]["value"] < mild["sensitivity_at_specificity"]["value"]
    with pytest.raises(BadChoice):
        score(labels, p, ["a", "b"], metrics=[Choice(name="sensitivity_at_specificity", specificity=2)])


def test_paired_delong_by_the_definition():
    rng = np.random.default_rng(5)
    truth = np.array([0] * 12 + [1] * 9)
    a, b = rng.normal(size=21) + truth, rng.normal(size=21).round(1) + 0.5 * truth

    def kernel(s):
        return np.array([[(x > y) + 0.5 * (x == y) for y in s[truth == 0]] for x in s[truth == 1]])

    v10, v01 = np.stack([kernel(a).mean(1), kernel(b).mean(1)]), np.stack([kernel(a).mean(0), kernel(b).mean(0)])
    s = np.cov(v10) / 9 + np.cov(v01) / 12
    found = delong_test(truth, a, b)
    assert found["difference"] == pytest.approx(auroc(truth, a) - auroc(truth, b), abs=1e-12)
    assert found["variance"] == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], abs=1e-12)
    assert 0 < found["p"] < 1 and found["p"] == pytest.approx(math.erfc(abs(found["z"]) / math.sqrt(2)))
    assert delong_test(truth, a, a) == {"difference": 0.0, "variance": 0.0, "z": 0.0, "p": 1.0}
    assert delong_test(truth, truth, 1 - truth) is None and delong_variance(truth[:13], a[:13]) is None


def test_newcombe_ends_solve_its_equation():
    low, high = newcombe_auroc(0.85, 12, 30)
    for theta in (low, high):
        s = 42 / 2 - 1
        v = theta * (1 - theta) * (1 + s * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (12 * 30)
        assert abs(theta - 0.85) == pytest.approx(1.959964 * math.sqrt(v), abs=1e-6)
    assert newcombe_auroc(1.0, 5, 5)[1] == 1.0 and 0.5 < newcombe_auroc(1.0, 5, 5)[0] < 0.8
    assert newcombe_auroc(0.5, 0, 5) is None


def test_calibration_line_and_temperature_recover_what_was_planted():
    rng = np.random.default_rng(2)
    logit = rng.normal(0, 1.5, 40_000)
    truth = rng.random(40_000) < 1 / (1 + np.exp(-(0.5 + logit)))
    line = calibration_line(truth, 1 / (1 + np.exp(-2 * logit)))  # twice as confident as it may be
    assert line["slope"] == pytest.approx(0.5, abs=0.02)
    assert calibration_line(truth, 1 / (1 + np.exp(-logit)))["intercept"] == pytest.approx(0.5, abs=0.04)
    fair = rng.random(40_000) < 1 / (1 + np.exp(-logit))
    sharp = 1 / (1 + np.exp(-2 * logit))
    assert fit_temperature(fair.astype(int), np.stack([1 - sharp, sharp], 1)) == pytest.approx(2.0, abs=0.06)
    milder = with_temperature(np.array([[0.7, 0.2, 0.1]]), 3.0)
    assert milder.sum() == pytest.approx(1) and milder[0].argsort().tolist() == [2, 1, 0] and milder[0, 0] < 0.7
    assert calibration_line([1, 1], [0.2, 0.3]) is None and calibration_line([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) is None
    assert calibration_line([0, 1, 0, 1], [0.5] * 4) is None and fit_temperature(np.array([], int), np.zeros((0, 2))) is None
    with pytest.raises(BadInput):
        with_temperature(np.array([[0.5, 0.5]]), 0)


def test_description_is_json_and_agrees_with_the_cases():
    import json

    labels, p = _predictions(4, n=900)
    drawn = json.loads(json.dumps(describe_predictions(labels, p, list("abcd")), allow_nan=False))
    assert drawn["confusion"] == reference.confusion_matrix(labels, p.argmax(1)).tolist() == confusion_matrix(labels, p).tolist()
    assert drawn["n"] == 900 and drawn["counts"] == np.bincount(labels).tolist()
    assert sum(row["n"] for row in drawn["reliability"]) == 900
    for c, name in enumerate("abcd"):
        curve = drawn["roc"][name]
        assert 50 < len(curve["fpr"]) <= 200 and (curve["fpr"][0], curve["tpr"][-1]) == (0.0, 1.0)
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(reference.roc_auc_score(labels == c, p[:, c]), abs=5e-3)
    assert describe_predictions([0, 0], [[0.9, 0.1], [0.6, 0.4]], ["a", "b"])["roc"] == {"a": None, "b": None}


def test_roc_corners_keep_the_area_when_nothing_is_thinned():
    labels, p = _predictions(2, n=80)
    points = roc_points(labels, p[:, 1])
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(auroc(labels, p[:, 1]), abs=1e-5)
    fpr, tpr, _ = reference.roc_curve(labels, p[:, 1], drop_intermediate=False)
    everything = {(round(x, 6), round(y, 6)) for x, y in zip(fpr, tpr, strict=True)}
    assert set(zip(points["fpr"], points["tpr"], strict=True)) <= everything
    assert sensitivity_at(labels, p[:, 1], specificity=0.9) == pytest.approx(tpr[fpr <= 0.1 + 1e-12].max())
