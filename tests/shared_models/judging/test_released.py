"""What sites may release always holds the figure of the patients themselves; and no count of few leaves, nor can one be found by subtraction."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_models.calibration.score_histograms import HIGH, LOW, placed, score_histograms, shown_classes, widths_of
from shared_models.judging.released import FIGURES, beside, exact_figures, figures_of, released_sites, released_table
from shared_models.judging.released_bounds import Histogram
from shared_models.metrics.calibration import brier, expected_calibration_error
from shared_models.metrics.decision import benefit_interval
from shared_models.metrics.intervals import wilson

CLASSES = ["normal", "UIP", "OP"]
NAMES = FIGURES


def sites(seed: int, most: int, rough: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and labels of one to four sites; `rough` ones lie on the edges of cells and tie."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rng.integers(1, 5)):
        n = int(rng.integers(1, most))
        y = rng.choice(3, n, p=rng.dirichlet(np.ones(3)))
        p = np.exp(rng.normal(0, 1, (n, 3)) + rng.choice([0.0, 1.0, 4.0]) * np.eye(3)[y])
        p = p / p.sum(1, keepdims=True)
        if rough:
            p[:, :2] = np.round(p[:, :2], 1)
            p[:, 2] = np.maximum(0, np.round(1 - p[:, :2].sum(1), 1))
        found.append((p, y))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([12, 60, 250]), st.booleans(), st.sampled_from([1, 3, 5]), st.sampled_from([10, 50, 100]))
def test_the_bounds_hold_the_figure_of_the_patients(seed: int, most: int, rough: bool, least: int, cells: int) -> None:
    of, fit = sites(seed, most, rough), score_histograms(3, cells=cells, least=least)
    total, patients = np.sum([fit.of(p, y) for p, y in of], axis=0), sum(len(y) for _, y in of)
    p, y = np.concatenate([p for p, _ in of]), np.concatenate([y for _, y in of])
    for name, row in beside(released_table(total, patients, CLASSES), y, p, CLASSES).items():
        truth = y == CLASSES.index(name)
        assert row["positives"] <= truth.sum() and row["positives"] + row["negatives"] + row["missing"] == patients
        exact = row["exact"]
        for figure in NAMES:
            if row[figure]["value"] is not None and exact[figure] is not None:
                low, high = (end if (end := row[figure][side]) is not None else far for side, far in (("low", -np.inf), ("high", np.inf)))
                assert low - 1e-9 <= exact[figure] <= high + 1e-9, (name, figure)
                assert low <= row[figure]["value"] <= high
        for threshold, cell in row["net_benefit"].items():
            assert cell["low"] - 1e-9 <= exact["net_benefit"][threshold] <= cell["high"] + 1e-9
            acted = p[:, CLASSES.index(name)] >= float(threshold)
            sampled = benefit_interval(int((acted & truth).sum()), int((acted & ~truth).sum()), patients, float(threshold))
            assert sampled and cell["sampled_low"] - 1e-9 <= sampled[0] and sampled[1] <= cell["sampled_high"] + 1e-9
        if not row["missing"]:
            for b in row["reliability"]:
                inside = (p[:, CLASSES.index(name)] > b["from"]) & (p[:, CLASSES.index(name)] <= b["to"]) | (
                    (b["from"] == 0) & (p[:, CLASSES.index(name)] == 0)
                )
                if inside.any():
                    assert b["low"] - 1e-9 <= truth[inside].mean() <= b["high"] + 1e-9 and inside.sum() <= b["most"]
                    low, high = wilson(int(truth[inside].sum()), int(inside.sum())) or (0, 1)
                    assert b["sampled_low"] - 1e-9 <= low and high <= b["sampled_high"] + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([1, 4, 30]), st.integers(1, 8))
def test_placements_bound_the_counts_and_no_cell_is_small(tens: int, seed: int, most: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, 10 * tens) * (rng.random(10 * tens) < rng.random())
    both = placed(counts, least)
    assert not ((both > 0) & (both < least)).any()
    assert both.sum(1).tolist() == ([counts.sum()] * 2 if counts.sum() >= least else [0, 0])
    if counts.sum() >= least:
        true = np.cumsum(counts)
        assert (np.cumsum(both[HIGH]) <= true).all() and (true <= np.cumsum(both[LOW])).all()
    if least == 1 and 2 * counts.sum() >= 10 * tens:
        assert (both == counts).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([10, 30, 50, 100, 140]), st.integers(0, 10**6), st.integers(0, 400), st.integers(1, 8))
def test_where_a_patient_lies_inside_a_group_known_beforehand_is_not_told(cells: int, seed: int, patients: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    widths = widths_of(cells, patients, least)
    assert widths[-1] == cells and all(wide % narrow == 0 for narrow, wide in pairwise(widths))
    where = (cells * rng.beta(0.5, 2, patients)).astype(int)
    moved = where // widths[0] * widths[0] + rng.integers(0, widths[0], patients)
    one, other = (placed(np.bincount(of, minlength=cells), least) for of in (where, moved))
    assert (one == other).all()
    for row, edge in zip(one, (0, -1), strict=True):  # every end is one of a group
        assert all((cell - edge) % widths[0] == 0 for cell in np.flatnonzero(row))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=6), st.integers(1, 8))
def test_a_small_class_cannot_be_found_by_subtraction(counts: list[int], least: int) -> None:
    of = np.array(counts)
    shown = shown_classes(of, least)
    assert not ((of[shown] > 0) & (of[shown] < least)).any()
    assert not 0 < of[~shown].sum() < least or of.sum() < least


def test_with_fine_cells_and_large_sites_the_bounds_are_narrow() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    s = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.0)))
    fit, p = score_histograms(2), np.stack([1 - s, s], 1)
    table = released_table(sum(fit.of(p[i::4], y[i::4]) for i in range(4)), 4000, ["no", "yes"])["yes"]
    exact = exact_figures(y == 1, s)
    for figure, most in {"auroc": 0.08, "auprc": 0.14, "sensitivity": 0.15, "brier": 0.05, "ece": 0.2, "intercept": 0.3, "slope": 3.0}.items():
        assert table[figure]["high"] - table[figure]["low"] < most, (figure, table[figure])
        assert abs(table[figure]["value"] - exact[figure]) < (0.3 if figure == "slope" else most / 2)
    assert exact["brier"] == pytest.approx(brier(y, p, np.ones((1, 4000)))[0])
    assert exact["ece"] == pytest.approx(expected_calibration_error(y, s, bins=10), abs=1e-9)


def test_who_may_not_be_shown_widens_every_bound_and_nothing_is_undefined_as_half() -> None:
    full = Histogram(np.eye(2, 10) * 0 + np.eye(10)[2] * 30, np.zeros((2, 10)) + np.eye(10)[8] * 20)
    some = Histogram(full.rest, full.positives, missing=10)
    for figure in NAMES:
        a, b = figures_of(full)[figure], figures_of(some)[figure]
        assert figure == "slope" or (b["low"] <= a["low"] and a["high"] <= b["high"] and math.isfinite(b["low"]))
    assert figures_of(full)["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert figures_of(Histogram(full.rest, np.zeros((2, 10)), missing=4))["auroc"]["value"] is None
    assert released_table(np.zeros((2, 2, 2, 10)), 4, ["a", "b"])["a"]["missing"] == 4 and LOW == 0


def test_each_site_is_judged_by_its_own_counts_and_not_below_ten_of_a_class() -> None:
    rng = np.random.default_rng(1)
    fit, parts, truth = score_histograms(2), {}, {}
    for site, n, positives in (("large", 300, 120), ("rare", 200, 8), ("tiny", 12, 6)):
        y = (np.arange(n) < positives).astype(int)
        s = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.0)))
        parts[site], truth[site] = (fit.of(np.stack([1 - s, s], 1), y), float(n)), exact_figures(y == 1, s)
    found = released_sites(parts, ["no", "yes"])
    large = found["large"]["yes"]
    assert large["why"] == "" and large["positives"] == 120
    for figure in FIGURES:
        low, high = (end if (end := large[figure][side]) is not None else far for side, far in (("low", -np.inf), ("high", np.inf)))
        assert low <= truth["large"][figure] <= high, figure
    for site in ("rare", "tiny"):
        row = found[site]["yes"]
        assert row["why"].endswith("10 of each are needed") and all(row[figure]["value"] is None for figure in FIGURES) and not row["net_benefit"]
    assert found["rare"]["yes"]["positives"] == 8
