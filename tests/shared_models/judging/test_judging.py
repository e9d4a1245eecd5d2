"""Planted traps are seen, honest data are left alone, and where a figure does not exist it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.core.errors import BadInput
from shared_models.judging.by_class import class_table
from shared_models.judging.shortcut import acquisition_baseline
from shared_models.judging.standing import collapses, pooling, ranking, site_gap
from shared_models.judging.subgroups import subgroup_table
from shared_models.metrics.calibration import calibration_line
from shared_models.metrics.ranking import auroc

CLASSES = ["normal", "UIP", "OP"]


def _cohort(seed: int, n: int = 120, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, n)
    logits = generator.normal(0, 1, (n, 3)) + skill * np.eye(3)[y]
    p = np.exp(logits)
    return y, p / p.sum(1, keepdims=True)


def test_each_class_has_the_figures_of_the_plain_functions() -> None:
    y, p = _cohort(0)
    table = class_table(y, p, CLASSES, bootstrap=200)
    for c, name in enumerate(CLASSES):
        row = table[name]
        assert row["positives"] == int((y == c).sum()) and row["positives"] + row["negatives"] == y.size
        assert row["auroc"]["value"] == auroc(y == c, p[:, c])
        assert row["auroc"]["low"] < row["auroc"]["value"] < row["auroc"]["high"]
        assert row["calibration"] == calibration_line(y == c, p[:, c])
        assert 0 <= row["sensitivity"]["low"] <= row["sensitivity"]["value"] <= row["sensitivity"]["high"] <= 1


def test_repeated_scans_widen_the_interval_and_count_as_one_patient() -> None:
    y, p = _cohort(1)
    once = class_table(y, p, CLASSES, bootstrap=400)
    four = class_table(np.repeat(y, 4), np.repeat(p, 4, axis=0), CLASSES, patients=np.repeat(np.arange(y.size), 4).tolist(), bootstrap=400)
    naive = class_table(np.repeat(y, 4), np.repeat(p, 4, axis=0), CLASSES, bootstrap=400)

    def width(table: dict) -> float:
        return table["UIP"]["auroc"]["high"] - table["UIP"]["auroc"]["low"]

    assert four["UIP"]["positives"] == once["UIP"]["positives"]
    assert width(naive) < 0.7 * width(four)
    assert width(four) == pytest.approx(width(once), rel=0.35)


def test_a_class_that_nobody_has_is_undefined_and_said_so() -> None:
    y, p = _cohort(2)
    row = class_table(np.where(y == 1, 0, y), p, CLASSES, bootstrap=50)["UIP"]
    assert row["auroc"]["value"] is None and row["calibration"] is None and row["why"].startswith("0 patients with it")


def test_a_label_that_follows_the_scanner_is_seen_and_an_honest_one_is_not() -> None:
    y, _ = _cohort(3, n=240)
    generator = np.random.default_rng(0)
    trap = np.where(generator.random(y.size) < 0.8, y, generator.integers(0, 3, y.size))
    honest = generator.integers(0, 3, y.size)
    names = np.array(["soft", "mid", "sharp"])
    assert acquisition_baseline({"kernel": names[trap].tolist()}, y, CLASSES)["follows"]
    assert not acquisition_baseline({"kernel": names[honest].tolist()}, y, CLASSES)["follows"]


def test_the_scanner_baseline_is_not_biased_where_the_scanner_says_nothing() -> None:
    found = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        y, kernel = generator.integers(0, 2, 60), generator.integers(0, 3, 60)
        found.append(acquisition_baseline({"kernel": kernel.astype(str).tolist()}, y, ["no", "yes"], bootstrap=0)["auroc_macro"]["value"])
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / np.sqrt(len(found))


def test_all_scans_of_a_patient_lie_in_one_fold() -> None:
    # Each patient has a kernel of its own: were its scans in two folds, the label would be known from the first.
    y = np.repeat(np.tile([0, 1], 20), 5)
    who = np.repeat(np.arange(40), 5)
    found = acquisition_baseline({"kernel": [f"k{n}" for n in who]}, y, ["no", "yes"], patients=who.tolist(), bootstrap=0)
    assert found["auroc_macro"]["value"] == 0.5
    assert acquisition_baseline({"kernel": [f"k{n}" for n in who]}, y, ["no", "yes"], bootstrap=0)["auroc_macro"]["value"] > 0.9
    with pytest.raises(BadInput, match="one word a case"):
        acquisition_baseline({}, y, ["no", "yes"])


def test_a_pooled_figure_that_hides_a_collapse_is_taken_apart() -> None:
    # Two sites: good at home, chance at the other one; pooled over both hospitals each model looks fair.
    home, away = {"value": 0.96, "low": 0.9, "high": 0.99}, {"value": 0.52, "low": 0.4, "high": 0.64}
    matrix = {"a": {"a": home, "b": away}, "b": {"a": away, "b": home}}
    assert [(one["model"], one["site"]) for one in collapses(matrix)] == [("a", "b"), ("b", "a")]
    assert collapses({"a": {"a": home, "b": {"value": 0.88, "low": 0.8, "high": 0.95}}}) == []
    assert collapses({"a": {"a": {"value": None, "low": None, "high": None}, "b": away}}) == []


def test_a_pooled_figure_that_only_knows_the_hospital_is_seen() -> None:
    # Two sites of opposite case mix; the model says where a patient is and nothing more.
    rng = np.random.default_rng(6)
    site = np.repeat([0, 1], 100)
    y = (rng.random(200) < np.where(site, 0.9, 0.1)).astype(int)
    s = np.clip(0.2 + 0.6 * site + rng.normal(0, 0.05, 200), 0.01, 0.99)
    p = np.stack([1 - s, s], 1)

    def cell(of: np.ndarray) -> dict:
        return {"value": auroc(y[of] == 1, p[of, 1]), "patients": int(of.sum())}

    told = pooling(cell(site >= 0), {"a": cell(site == 0), "b": cell(site == 1)})
    assert told["pooled"] > 0.8 and abs(told["within"] - 0.5) < 0.12 and told["hides"]
    fair = np.clip(0.3 + 0.4 * y + rng.normal(0, 0.1, 200), 0.01, 0.99)
    p = np.stack([1 - fair, fair], 1)
    assert not pooling(cell(site >= 0), {"a": cell(site == 0), "b": cell(site == 1)})["hides"]
    assert pooling({"value": 0.9}, {"a": {"value": 0.5}})["within"] is None


def test_six_positives_are_not_ranked() -> None:
    figures = {"a": {"value": 0.9}, "b": {"value": 0.8}}
    told = ranking(figures, {"UIP": 6, "normal": 40})
    assert told["order"] is None and "6 patients with UIP" in told["why"]
    assert ranking(figures, {"UIP": 10, "normal": 40})["order"] == ["a", "b"]
    assert site_gap({"a": {"value": 0.9}})["worst"] is None


def test_a_group_that_is_served_badly_is_named_with_an_interval_that_leaves_zero_out() -> None:
    y, p = _cohort(4, n=300)
    sex = np.where(np.arange(y.size) % 2, "F", "M")
    blind = np.random.default_rng(5).dirichlet(np.ones(3), y.size)
    p = np.where((sex == "F")[:, None], blind, p)
    told = subgroup_table({"sex": sex.tolist()}, y, p, CLASSES, bootstrap=300)["sex"]
    assert (told["worst"], told["best"]) == ("F", "M") and told["gap"]["low"] > 0.1
    few = subgroup_table({"sex": sex[:18].tolist()}, y[:18], p[:18], CLASSES, bootstrap=50)["sex"]
    assert few["worst"] is None and few["groups"]["F"]["n"] == 9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_figures_do_not_depend_on_the_order_of_patients_or_the_names_of_classes(seed: int, turn: int) -> None:
    y, p = _cohort(seed, n=60)
    order = np.random.default_rng(seed + 1).permutation(y.size)
    one, other = class_table(y, p, CLASSES, bootstrap=0), class_table(y[order], p[order], CLASSES, bootstrap=0)
    assert {name: row["auroc"] for name, row in one.items()} == {name: row["auroc"] for name, row in other.items()}
    rolled = class_table((y + turn) % 3, np.roll(p, turn, axis=1), CLASSES, bootstrap=0)
    for c, name in enumerate(CLASSES):
        assert rolled[CLASSES[(c + turn) % 3]]["auroc"] == one[name]["auroc"]
