"""Paired comparisons: against SciPy, against hand-worked numbers, and resample by resample the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared_models.core.errors import BadInput
from shared_models.metrics import METRICS, score
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.paired import Group, holm, paired_t, resampled, summary, t_interval

CLASSES = ("a", "b", "c")


def group(seed: int, n: int = 40, patients: int = 15) -> Group:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), n)
    return Group(rng.integers(0, 3, n).tolist(), p.tolist(), [f"p{i}" for i in rng.integers(0, patients, n)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_the_t_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = (list(side) for side in zip(*pairs, strict=True))
    differences = np.subtract(ours, theirs)
    if differences.std() < 1e-6:
        return
    found, wanted = paired_t(ours, theirs), stats.ttest_rel(ours, theirs)
    interval = wanted.confidence_interval()
    assert found["p"] == pytest.approx(wanted.pvalue, abs=1e-9)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found["n"] == len(pairs)


def test_what_a_t_test_cannot_say() -> None:
    assert t_interval([]) == {"value": None, "sd": None, "low": None, "high": None, "n": 0}
    assert t_interval([0.5])["low"] is None and t_interval([0.5])["value"] == 0.5
    assert paired_t([0.5], [0.4])["p"] is None
    assert paired_t([0.5, 0.6], [0.5, 0.6])["p"] == 1.0
    assert paired_t([0.5, 0.5], [0.4, 0.4])["p"] is None
    with pytest.raises(BadInput, match="one value a seed"):
        paired_t([0.5], [])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.2]) == pytest.approx([0.04, 0.06, 0.06, 0.2])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([None, 0.02]) == [None, 0.02]


@pytest.mark.parametrize("metric", ["accuracy", "auroc_macro", "mean_recall"])
def test_rows_are_the_mean_of_the_groups_scores(metric: str) -> None:
    groups = {"x": group(0), "y": group(1)}
    rows = resampled(METRICS[metric], groups, CLASSES, bootstrap=30)
    plain = [score(one.labels, one.probabilities, CLASSES, metrics=(metric,), bootstrap=0)[metric]["value"] for one in groups.values()]
    assert rows[0] == pytest.approx(np.mean(plain))
    assert summary(rows, 40)["value"] == pytest.approx(np.mean(plain))
    assert len(rows) == 31 and np.nanstd(rows) > 0


def test_two_methods_and_two_seeds_see_the_same_patients() -> None:
    one = group(0)
    shifted = Group(one.labels, np.roll(one.probabilities, 1, axis=1).tolist(), one.patients)
    both = [resampled(METRICS["accuracy"], {"x": g}, CLASSES, bootstrap=200) for g in (one, one, shifted)]
    assert np.array_equal(both[0], both[1])
    # the slow way: every case of a drawn patient counts once more, in both models alike
    import zlib

    counts = bootstrap_counts(40, 200, groups=one.patients, seed=zlib.crc32("\n".join(("0", "x", *one.patients)).encode()))
    labels = np.array(one.labels)
    for row, many in zip((both[2] - both[0])[1:], counts, strict=True):
        drawn = np.repeat(np.arange(40), many.astype(int))
        right = [(np.array(g.probabilities)[drawn].argmax(1) == labels[drawn]).mean() for g in (one, shifted)]
        assert row == pytest.approx(right[1] - right[0])
    elsewhere = Group(one.labels, one.probabilities, [f"q{name}" for name in one.patients])
    assert not np.array_equal(resampled(METRICS["accuracy"], {"x": elsewhere}, CLASSES, bootstrap=200), both[0])


def test_an_undefined_group_is_undefined() -> None:
    lonely = Group([0, 0], [[1.0, 0.0, 0.0]] * 2, ["p", "q"])
    assert summary(resampled(METRICS["auroc_macro"], {"x": lonely, "y": group(2)}, CLASSES, bootstrap=5), 6) == {
        "value": None,
        "low": None,
        "high": None,
    }
