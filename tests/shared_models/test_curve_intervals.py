"""Intervals of calibration and decision curves: they hold the curve, resample whole patients, agree with slow arithmetic and with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.coverage import coverage
from shared_models.judging.by_class import class_curves
from shared_models.metrics.decision import THRESHOLDS, TOLD, benefit_interval, benefit_rows, decision_curve, net_benefit
from shared_models.metrics.horizons import benefit_rows_at, calibration_at, share_interval, share_rows
from shared_models.metrics.intervals import bootstrap_counts, wilson
from shared_models.metrics.prognosis_curves import calibration_of, decision_of, describe_prognosis, told_at_horizons
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.spec import ones
from shared_models.survival.life_table import kaplan_meier, life_table


def followed(seed: int, n: int, *, rough: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and risks by 3; `rough` ones tie."""
    rng = np.random.default_rng(seed)
    hazard = np.exp(rng.normal(size=n)) / 4
    death, last = rng.exponential(1 / hazard), rng.uniform(0.5, 9, n)
    times = np.minimum(death, last)
    outcomes = np.column_stack([np.ceil(times) if rough else times, death <= last, np.zeros(n)]).astype(float)
    risks = 1 - np.exp(-hazard * 3)
    return outcomes, risks.round(1) if rough else risks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 60), st.booleans(), st.integers(1, 3))
def test_the_band_holds_the_curve(seed: int, patients: int, rough: bool, scans: int) -> None:
    outcomes, risks = followed(seed, patients, rough=rough)
    outcomes, risks, who = np.repeat(outcomes, scans, axis=0), np.repeat(risks, scans), np.repeat(np.arange(patients), scans).tolist()
    drawn = describe_prognosis(outcomes, risks[:, None], [3.0], groups=who, bootstrap=60)
    decision, calibration = drawn["decision"]["3"], drawn["calibration"]["3"]
    if decision is None:  # nobody was followed so far
        assert calibration is None and outcomes[:, 0].max() < 3
        return
    rows = [decision[name] for name in ("model", "model_low", "model_high", "all", "all_low", "all_high")]
    for model, low, high, everybody, lowest, highest in zip(*rows, strict=True):
        assert low is None or low <= model <= high
        assert lowest is None or lowest <= everybody <= highest
    for cell in (*calibration["bins"], calibration):
        assert cell["low"] is None or -1e-9 <= cell["low"] <= cell["seen"] + 1e-9 <= cell["high"] + 2e-9 <= 1 + 3e-9
    told = told_at_horizons(drawn)["3"]
    assert list(told["net_benefit"]) == [f"{t:g}" for t in TOLD] and told["calibration"]["seen"]["value"] == calibration["seen"]
    for t, cells in told["net_benefit"].items():
        assert cells["model"]["value"] == decision["model"][int(np.abs(THRESHOLDS - float(t)).argmin())]
        assert cells["over_all"]["value"] == pytest.approx(cells["model"]["value"] - cells["all"]["value"], abs=1e-12)
    for cell in (told["calibration"]["ratio"], told["calibration"]["difference"]):
        assert cell["low"] is None or cell["low"] <= cell["value"] <= cell["high"]


@pytest.mark.parametrize("rough", [False, True])
def test_resampled_shares_and_benefits_are_those_of_repeated_patients(rough: bool) -> None:
    outcomes, risks = followed(3, 50, rough=rough)
    counts = bootstrap_counts(50, 6, seed=1)
    shares, at = share_rows(outcomes, counts, horizon=3.0), {"horizon": 3.0, "thresholds": THRESHOLDS}
    benefits = benefit_rows_at(outcomes, risks, counts, **at)
    for row, share, benefit in zip(counts, shares, benefits, strict=True):
        twice = np.repeat(np.arange(50), row.astype(int))
        slow = 1 - kaplan_meier(life_table(outcomes[twice, 0], outcomes[twice, 1])).at(3.0)
        assert share == pytest.approx(slow, abs=1e-12)
        for t, value in zip(THRESHOLDS[::9], benefit[::9], strict=True):
            acted = twice[risks[twice] >= t]
            event = 1 - kaplan_meier(life_table(outcomes[acted, 0], outcomes[acted, 1])).at(3.0) if len(acted) else 0.0
            assert value == pytest.approx(len(acted) / 50 * (event - (1 - event) * t / (1 - t)), abs=1e-12)
    assert np.isnan(share_rows(outcomes, np.zeros((1, 50)), horizon=3.0)[0])


def test_the_interval_of_counts_is_wilsons_where_all_are_acted_on_and_moves_with_each_patient() -> None:
    for hits, n, t in ((10, 40, 0.2), (39, 40, 0.5), (3, 17, 0.05)):
        odds = t / (1 - t)
        low, high = (share - odds * (1 - share) for share in wilson(hits, n) or ())
        assert benefit_interval(hits, n - hits, n, t) == pytest.approx((max(low, -odds), min(high, 1)), abs=1e-9)
    assert benefit_interval(0, 0, 0, 0.2) is None
    for n, t in ((13, 0.05), (13, 0.5), (29, 0.2), (29, 0.6)):
        cells = {(hits, alarms): benefit_interval(hits, alarms, n, t) or (0, 0) for hits in range(n + 1) for alarms in range(n + 1 - hits)}
        for (hits, alarms), ends in cells.items():
            more, worse = cells.get((hits + 1, alarms), (9, 9)), cells.get((hits, alarms + 1), (-9, -9))
            assert all(a >= b - 1e-12 for a, b in zip(more, ends, strict=True)), (hits, alarms)
            assert all(a <= b + 1e-12 for a, b in zip(worse, ends, strict=True)), (hits, alarms)


def test_copies_of_scans_add_no_certainty() -> None:
    outcomes, risks = followed(5, 60)
    who, four = np.repeat(np.arange(60), 4).tolist(), {"outcomes": np.repeat(outcomes, 4, axis=0), "risks": np.repeat(risks, 4)}
    counts, times = bootstrap_counts(60, 400, seed=0), bootstrap_counts(240, 400, groups=who, seed=0)
    for of in (decision_of, calibration_of):
        one = of(outcomes, risks, horizon=3.0, counts=counts)
        copied = of(**four, horizon=3.0, groups=who, counts=times)
        assert one is not None and copied is not None
        for name in ("model_low", "all_high") if of is decision_of else ("ratio", "difference"):
            if of is decision_of:
                assert copied[name][20] == pytest.approx(one[name][20], abs=1e-9)
            else:
                assert list(copied[name].values()) == pytest.approx(list(one[name].values()), abs=1e-9)
    naive, right = (share_interval(four["outcomes"], horizon=3.0, counts=times, patients=n) for n in (240, 60))
    assert naive is not None and right is not None and right[1] - right[0] > 1.7 * (naive[1] - naive[0])


def test_an_interval_does_not_shut_where_nobody_or_everybody_had_the_event() -> None:
    alive = np.column_stack([np.linspace(2, 9, 30), np.zeros(30), np.zeros(30)])
    late = int((alive[:, 0] >= 3).sum())
    assert share_interval(alive, horizon=3.0) == wilson(0, late) and share_interval(alive, horizon=3.0, patients=10) == wilson(0, round(late / 3))
    assert share_interval(alive * [0.1, 1, 1] + [0, 1, 0], horizon=3.0) == wilson(30, 30)
    assert share_interval(alive[:0], horizon=3.0) is None
    row = calibration_at(alive, np.full(30, 0.1), horizon=3.0, bins=1)[0]
    assert row["seen"] == row["low"] == 0 and row["high"] > 0.05
    nobody = decision_of(alive, np.full(30, 0.01), horizon=3.0, counts=bootstrap_counts(30, 50))
    assert nobody is not None and set(nobody["model_low"]) == {None} and nobody["told"]["0.1"]["model"]["value"] == 0
    assert calibration_of(alive, np.zeros(30), horizon=3.0) is not None  # no ratio to nothing
    assert calibration_of(alive, np.full(30, 0.1), horizon=99.0) is None and decision_of(alive, np.full(30, 0.1), horizon=99.0) is None


def test_classes_have_limits_by_patient() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(90)
    y = (rng.random(90) < p).astype(int)
    two = np.stack([1 - p, p], 1)
    curve = decision_curve(y, p)
    assert curve is not None
    for t, value, low, high in zip(THRESHOLDS, curve["model"], curve["model_low"], curve["model_high"], strict=True):
        acted = p >= t
        assert low < value < high and (low, high) == benefit_interval(int((acted & (y == 1)).sum()), int((acted & (y == 0)).sum()), 90, t)
    counts = bootstrap_counts(90, 200, groups=list(range(90)))
    assert benefit_rows(y, p, THRESHOLDS, ones(90))[0] == pytest.approx(net_benefit(y, p, THRESHOLDS))
    resampled = resampled_interval(benefit_rows(y, p, THRESHOLDS[15:16], counts)[:, 0], curve["model"][15], 90, scale="difference")
    assert resampled == pytest.approx((curve["model_low"][15], curve["model_high"][15]), abs=0.03)
    who = [f"p{case // 3}" for case in range(90)]
    alone, three = class_curves(y, two, ["a", "b"])["b"], class_curves(y, two, ["a", "b"], patients=who, bootstrap=200)["b"]
    assert [row["true"] for row in alone["reliability"]] == [row["true"] for row in three["reliability"]]
    assert all(row["low"] <= row["true"] <= row["high"] for row in three["reliability"])
    copied = class_curves(np.repeat(y, 3), np.repeat(two, 3, axis=0), ["a", "b"], patients=np.repeat(np.arange(90), 3).tolist(), bootstrap=400)["b"]
    wide, narrow = ([high - low for low, high in zip(of["model_low"], of["model_high"], strict=True)] for of in (copied["decision"], curve))
    assert np.median(np.array(wide) / np.array(narrow)) == pytest.approx(1, abs=0.12)
    assert decision_curve(np.repeat(y, 2), np.repeat(p, 2), patients=np.repeat(np.arange(90), 2).tolist())["model_low"][0] is None  # type: ignore[index]


SETS = 250
LOOSE = 3.5 * (0.95 * 0.05 / SETS) ** 0.5


@pytest.mark.parametrize(
    "name", ["net_benefit_20", "net_benefit_50", "net_benefit_of_clusters", "net_benefit_at_3_50", "calibration_ratio_at_3", "calibration_bin_low"]
)
def test_an_interval_covers_what_it_says(name: str) -> None:
    found = coverage(name, 120, SETS)
    assert 0.95 - LOOSE <= found["covered"] <= 0.95 + LOOSE and found["undefined"] < 0.02, found
