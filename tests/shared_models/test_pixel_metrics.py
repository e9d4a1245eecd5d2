"""Dice and extents of patients from tables of pixels, against the slow obvious way on the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.metrics.segmentation import (
    class_dice,
    compare_pixels,
    dice,
    extent_agreement,
    extents,
    pixel_table,
    pooled_dice_rows,
    score_pixels,
)

CLASSES = ("normal", "ggo", "reticulation")


def patients(seed: int, count: int = 6, wrong: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Drawn and called classes, (n, y, x); a tenth is not annotated."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (count, 9, 9)).astype(np.uint8)
    truth[: count // 2][truth[: count // 2] == 2] = 0
    found = np.where(rng.uniform(size=truth.shape) < wrong, rng.integers(0, 3, truth.shape), truth).astype(np.uint8)
    truth[rng.uniform(size=truth.shape) < 0.1] = 255
    return truth, found


def tables_of(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.stack([pixel_table(a, b, 3) for a, b in zip(truth, found, strict=True)])


@given(st.integers(0, 1000))
def test_dice_of_a_table_is_dice_of_the_pixels(seed: int) -> None:
    truth, found = patients(seed)
    for row, a, b in zip(class_dice(tables_of(truth, found)), truth, found, strict=True):
        known = a != 255
        for place, value in enumerate(row):
            slow = dice(b[known], a[known], label=place) if (a[known] == place).any() else None
            assert (slow is None) == np.isnan(value)
            assert slow is None or value == pytest.approx(slow)


def test_the_mean_is_over_patients_who_have_the_class_then_over_classes() -> None:
    truth, found = patients(1)
    tables = tables_of(truth, found)
    each = class_dice(tables)
    scores = score_pixels(tables, CLASSES, bootstrap=200)
    by_hand = [np.nanmean(each[:, 1]), np.nanmean(each[:, 2])]
    assert scores["dice_ggo"]["value"] == pytest.approx(by_hand[0])
    assert scores["dice"]["value"] == pytest.approx(np.mean(by_hand))
    assert (scores["dice_ggo"]["n"], scores["dice_reticulation"]["n"]) == (6, 3)
    assert scores["dice"]["low"] < scores["dice"]["value"] < scores["dice"]["high"]
    assert scores["dice"] == score_pixels(tables, CLASSES, bootstrap=200)["dice"]


def test_a_class_called_where_there_is_none_counts_in_the_pooled_dice() -> None:
    tables = np.array([[[8, 0], [0, 2]], [[6, 4], [0, 0]]])
    scores = score_pixels(tables, ("normal", "ggo"), bootstrap=0)
    assert scores["dice"]["value"] == 1.0
    assert scores["pooled_dice"]["value"] == pytest.approx(4 / 8)
    assert pooled_dice_rows(tables, np.array([[1.0, 0.0]])).tolist() == [1.0]


def test_no_patient_or_no_class_is_undefined() -> None:
    empty = score_pixels(np.zeros((0, 2, 2), int), ("normal", "ggo"), bootstrap=10)
    assert {name: (cell["value"], cell["low"], cell["n"]) for name, cell in empty.items()} == dict.fromkeys(empty, (None, None, 0))
    healthy = score_pixels(np.array([[[5, 0], [0, 0]]]), ("normal", "ggo"), bootstrap=0)
    assert healthy["dice"]["value"] is None


def test_a_better_model_is_better_on_the_same_patients() -> None:
    truth, good = patients(2, 12, 0.05)
    worse = patients(2, 12, 0.5)[1]
    a, b = tables_of(truth, good), tables_of(truth, worse)
    found = compare_pixels(a, [b], "dice", bootstrap=200)
    assert found["low"] is not None
    assert found["low"] > 0
    assert compare_pixels(a, [a], "dice", bootstrap=20) == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 12}


def test_extents_are_percent_of_what_was_annotated() -> None:
    truth, found = patients(3)
    tables = tables_of(truth, found)
    drawn, called = extents(tables)
    np.testing.assert_allclose(drawn.sum(1), 100)
    np.testing.assert_allclose(called.sum(1), 100)
    known = truth[0] != 255
    assert drawn[0, 1] == pytest.approx(100 * (truth[0][known] == 1).mean())
    table = extent_agreement(tables, CLASSES)
    assert list(table) == ["ggo", "reticulation"]
    gap = called[:, 1] - drawn[:, 1]
    assert table["ggo"]["bias"] == pytest.approx(gap.mean())
    assert table["ggo"]["mae"] == pytest.approx(np.abs(gap).mean())
    perfect = extent_agreement(tables_of(truth, np.where(truth == 255, 0, truth).astype(np.uint8)), CLASSES)["ggo"]
    assert (perfect["bias"], perfect["mae"], perfect["ccc"]) == (0.0, 0.0, pytest.approx(1.0))
    assert extent_agreement(tables[:0], CLASSES)["ggo"]["bias"] is None
