"""What must hold for any predictions, and whether 95 % intervals hold the truth about 95 times in a hundred."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.core.errors import BadInput
from shared_models.metrics import METRICS, compare, score
from shared_models.metrics.agreement import concordance
from shared_models.metrics.intervals import bootstrap_counts, clopper_pearson, newcombe_auroc, wilson
from shared_models.metrics.ranking import auroc, auroc_rows, average_precision
from shared_models.metrics.resampled_intervals import resampled_interval


@st.composite
def predictions(draw, k=None):
    k = k or draw(st.integers(2, 4))
    n = draw(st.integers(1, 25))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    weights = draw(st.lists(st.lists(st.integers(1, 9), min_size=k, max_size=k), min_size=n, max_size=n))
    p = np.array(weights, float)
    return np.array(labels), p / p.sum(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_values_are_in_range_or_none_and_never_nan(case):
    labels, p = case
    found = score(labels, p, [f"c{i}" for i in range(p.shape[1])], bootstrap=40)
    json.dumps(found, allow_nan=False)
    for name, cell in found.items():
        top = {"brier": 2.0, "log_loss": 40.0}.get(name, 1.0)
        assert cell["value"] is None or -1e-12 <= cell["value"] <= top + 1e-12
        assert (cell["low"] is None) == (cell["high"] is None)
        if cell["low"] is not None:
            assert cell["value"] is not None and cell["low"] <= cell["high"]
        assert cell["n"] == len(labels)
    if len(set(labels.tolist())) == 1:
        assert found["auroc_macro"]["value"] is None and found["auprc_macro"]["value"] is None and found["auroc_macro"]["classes"] == 0


@settings(max_examples=60, deadline=None)
@given(predictions(k=2), st.randoms(use_true_random=False))
def test_ranking_metrics_see_order_alone(case, random):
    labels, p = case
    scores = p[:, 1]
    area = auroc(labels, scores)
    assert auroc(labels, np.exp(3 * scores)) == area and average_precision(labels, scores) == average_precision(labels, 7 * scores - 2)
    shuffled = list(range(len(labels)))
    random.shuffle(shuffled)
    assert auroc(labels[shuffled], scores[shuffled]) == area
    if area is not None:
        pairs = [(x > y) + 0.5 * (x == y) for x in scores[labels == 1] for y in scores[labels == 0]]
        assert area == pytest.approx(np.mean(pairs), abs=1e-12)
        assert auroc(1 - labels, scores) == pytest.approx(1 - area, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_intervals_hold_the_share_and_mirror(pair):
    hits, n = pair
    for interval in (wilson, clopper_pearson):
        low, high = interval(hits, n)
        assert 0 <= low <= hits / n <= high <= 1
        other = interval(n - hits, n)
        assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-9)
    assert clopper_pearson(hits, n)[1] - clopper_pearson(hits, n)[0] >= wilson(hits, n)[1] - wilson(hits, n)[0] - 0.05


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 25), st.integers(1, 25))
def test_newcombe_holds_the_area_and_mirrors(step, positives, negatives):
    value = step / 40
    low, high = newcombe_auroc(value, positives, negatives)
    assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 and high > low
    mirrored = newcombe_auroc(1 - value, negatives, positives)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.floats(-50, 50))
def test_concordance_is_bounded_and_punishes_a_shift(a, shift):
    a = np.array(a)
    value = concordance(a, a + shift)
    assert value is None or -1 - 1e-9 <= value <= 1 + 1e-9
    if np.ptp(a) > 1 and abs(shift) > 1:
        assert value < 1


def test_patients_are_drawn_whole():
    groups = ["p1", "p1", "p2", "p3", "p3", "p3"]
    counts = bootstrap_counts(6, 500, groups=groups, seed=4)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, 0] + counts[:, 2] + counts[:, 3] == 3).all()
    assert counts[:, 2].mean() == pytest.approx(1, abs=0.12)
    assert (bootstrap_counts(6, 500, groups=groups, seed=4) == counts).all()
    assert (bootstrap_counts(6, 500, groups=groups, seed=5) != counts).any()


def test_copied_scans_do_not_narrow_an_interval():
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    p = np.clip(0.5 + 0.2 * (2 * labels - 1) + rng.normal(0, 0.3, 24), 0.01, 0.99)
    copied = {"labels": np.repeat(labels, 5), "probabilities": np.repeat(p, 5), "classes": ["a", "b"]}
    one = score(labels, p, ["a", "b"], metrics=["brier"])["brier"]
    patients = score(**copied, groups=np.repeat(np.arange(24), 5), metrics=["brier"])["brier"]
    scans = score(**copied, metrics=["brier"])["brier"]
    assert (patients["low"], patients["high"]) == pytest.approx((one["low"], one["high"]), abs=1e-12)
    assert patients["patients"] == 24 and patients["n"] == 120
    assert scans["high"] - scans["low"] < 0.6 * (one["high"] - one["low"])


def test_a_perfect_score_keeps_an_interval():
    labels, p = np.arange(12) % 3, np.eye(3)[np.arange(12) % 3] * 0.7 + 0.1
    found = score(labels, p, ["a", "b", "c"])
    for name in ("auroc_macro", "accuracy", "balanced_accuracy", "auroc_b"):
        assert found[name]["value"] == 1.0 and found[name]["high"] == 1.0 and 0.3 < found[name]["low"] < 0.9, name
    assert found["auprc_macro"]["value"] == 1.0 and found["auprc_macro"]["low"] is None
    assert found["auroc_macro"]["classes"] == 3


def test_macro_runs_over_defined_classes_and_says_how_many():
    labels, p = np.array([0, 0, 1, 1]), np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.2, 0.5, 0.3], [0.55, 0.4, 0.05]])
    found = score(labels, p, ["a", "b", "absent"], bootstrap=0)
    assert found["auroc_absent"]["value"] is None and found["auroc_macro"]["classes"] == 2
    assert found["auroc_macro"]["value"] == pytest.approx((found["auroc_a"]["value"] + found["auroc_b"]["value"]) / 2)


def test_a_comparison_is_paired():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    base = rng.normal(size=80) + labels
    a, b = 1 / (1 + np.exp(-base)), 1 / (1 + np.exp(-(base + rng.normal(0, 0.1, 80))))
    spec = METRICS["auroc_macro"]
    both = compare(spec, labels, a, [b], ["x", "y"])
    swapped = compare(spec, labels, b, [a], ["x", "y"])
    assert (both["value"], both["low"]) == pytest.approx((-swapped["value"], -swapped["high"]), abs=1e-12)
    alone = score(labels, a, ["x", "y"], metrics=["auroc_macro"])["auroc_macro"]
    assert both["high"] - both["low"] < 0.3 * (alone["high"] - alone["low"])
    c = np.full(80, 0.5)
    several = compare(spec, labels, a, [b, c], ["x", "y"])["value"]
    assert several == pytest.approx(auroc(labels, a) - (auroc(labels, b) + 0.5) / 2, abs=1e-12)
    with pytest.raises(BadInput):
        compare(spec, labels, a, [], ["x", "y"])


def test_a_resampled_interval_holds_the_truth_95_times_in_a_hundred():
    """600 samples from a known world: two normal curves one apart, so that the true AUROC is Phi(1 / sqrt 2) = 0.760."""
    rng, repeats, half = np.random.default_rng(12), 600, 60
    area, truth = 0.5 * (1 + math.erf(0.5)), np.repeat([0, 1], half)
    counts, held = bootstrap_counts(2 * half, 200, seed=1), 0
    for _ in range(repeats):
        scores = rng.normal(size=2 * half) + truth
        low, high = resampled_interval(auroc_rows(truth, scores, counts), auroc(truth, scores), 2 * half)
        held += low <= area <= high
    assert abs(held / repeats - 0.95) <= 3.5 * math.sqrt(0.95 * 0.05 / repeats)
