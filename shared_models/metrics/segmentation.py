"""How well a mask matches the true one: overlap, volume and extent. Masks are label images of equal shape, axes z y x.

Of patients a table of pixels is enough: rows are classes as drawn, columns as called, shape (n, classes, classes). Class 0 is background or healthy
lung: extents are percent of it all, and a mean over classes leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.metrics.agreement import bland_altman, concordance, quadratic_kappa
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.spec import Counts, MetricSpec, Rows, mean_of_defined, number, ones, ratio
from shared_models.patterns import UNLABELLED

EXTENT_BINS_PERCENT = (5.0, 30.0)
"""Bounds of the bins of an extent: below 5, 5 to 29, from 30 % of the lung. Karampitsakos et al., Front Med 2023."""


def dice(mask: Mask, truth: Mask, *, label: int = 1) -> float | None:
    """Return ``2 |A and B| / (|A| + |B|)`` of the voxels with `label`; None where neither mask has any.

    Source: Dice, Ecology 1945;26:297.

    Examples
    --------
    >>> dice(np.array([[1, 1, 0]], np.uint8), np.array([[0, 1, 0]], np.uint8))
    0.6666666666666666
    """
    a, b = _voxels(mask, truth, label)
    return number(ratio(np.asarray(2 * np.count_nonzero(a & b)), np.asarray(np.count_nonzero(a) + np.count_nonzero(b))))


def volume_bias(mask: Mask, truth: Mask, *, label: int = 1) -> float | None:
    """Return ``(|A| - |B|) / |B|``: 0.1 means 10 % too much volume; None where the true mask has no voxel of `label`.

    Examples
    --------
    >>> volume_bias(np.array([[1, 1, 0]], np.uint8), np.array([[0, 1, 0]], np.uint8))
    1.0
    """
    a, b = _voxels(mask, truth, label)
    return number(ratio(np.asarray(np.count_nonzero(a) - np.count_nonzero(b)), np.asarray(np.count_nonzero(b))))


def _voxels(mask: Mask, truth: Mask, label: int) -> tuple[np.ndarray, np.ndarray]:
    if mask.shape != truth.shape:
        raise BadInput("two masks must have the same shape", value=(mask.shape, truth.shape))
    return mask == label, truth == label


def pixel_table(truth: NDArray[Any], found: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return how many pixels of each class (rows) were called what (columns); pixels that nobody has drawn on (254, 255) are left out.

    Examples
    --------
    >>> pixel_table(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    known = truth < UNLABELLED
    pairs = truth[known].astype(np.int64) * classes + found[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_dice(tables: NDArray[Any]) -> NDArray[np.float64]:
    """Return the Dice of each class in each table (n, classes, classes), shape (n, classes); NaN where the truth holds none of the class.

    A class that is called where there is none is no Dice of 0, which one pixel would make: it counts in the pooled Dice and in the extents.

    Examples
    --------
    >>> class_dice(np.array([[[1, 0], [1, 1]], [[2, 1], [0, 0]]])).round(3).tolist()
    [[0.667, 0.667], [0.8, nan]]
    """
    tables = np.asarray(tables, np.float64)
    right, drawn, called = np.diagonal(tables, axis1=-2, axis2=-1), tables.sum(-1), tables.sum(-2)
    return np.where(drawn > 0, ratio(2 * right, drawn + called), np.nan)


def dice_rows(tables: NDArray[Any], counts: Counts, *, only: int | None = None) -> Rows:
    """Return the mean Dice over the patients who have a class, and then over the classes but the first (or of class `only`), of each resample."""
    values = class_dice(tables)[:, 1:] if only is None else class_dice(tables)[:, only : only + 1]
    known = ~np.isnan(values)
    return mean_of_defined(ratio(counts @ np.where(known, values, 0.0), counts @ known.astype(np.float64)).T)


def pooled_dice_rows(tables: NDArray[Any], counts: Counts) -> Rows:
    """Return the Dice of the pixels of all patients together, its mean over the classes but the first, of each resample."""
    summed = np.tensordot(counts, np.asarray(tables, np.float64), axes=(1, 0))
    return mean_of_defined(class_dice(summed)[:, 1:].T)


SEGMENTATION_METRICS: dict[str, MetricSpec] = {
    "dice": MetricSpec(
        function=dice_rows,
        title="Dice (mean over classes)",
        better="higher",
        means="Overlap of what was called with what was drawn: mean over the patients who have a class, then over classes. 1 is perfect.",
        source="Dice, Ecology 1945;26:297",
    ),
    "pooled_dice": MetricSpec(
        function=pooled_dice_rows,
        title="Dice of all pixels together (mean over classes)",
        better="higher",
        means="The same overlap of the pixels of all patients as one: what is called where there is nothing counts against it.",
        source="Dice, Ecology 1945;26:297",
    ),
}
"""How well pixels are told apart: ``function(tables, counts) -> rows``, counts as of `MetricSpec`."""


def score_pixels(tables: NDArray[Any], classes: Sequence[str], *, seed: int = 0, bootstrap: int = 1000) -> dict[str, dict[str, Any]]:
    """Return each metric, and ``dice_<class>`` of each class but the first, with its 95 % interval over patients.

    Parameters
    ----------
    tables : ndarray of int, shape (n, classes, classes)
        One a patient.
    classes : sequence of str
        Their names.
    seed, bootstrap : int
        Of the resamples of patients; 0 leaves intervals out.

    Examples
    --------
    >>> score_pixels(np.array([[[8, 0], [1, 1]], [[9, 0], [0, 1]]]), ("normal", "ggo"), bootstrap=0)["dice_ggo"]["value"]
    0.8333333333333333
    """
    counts = np.concatenate([ones(len(tables)), bootstrap_counts(len(tables), bootstrap, seed=seed)])
    rows = {name: spec.function(tables, counts) for name, spec in SEGMENTATION_METRICS.items()}
    rows |= {f"dice_{name}": dice_rows(tables, counts, only=place) for place, name in enumerate(classes) if place}
    have = {f"dice_{name}": int((np.asarray(tables)[:, place].sum(1) > 0).sum()) for place, name in enumerate(classes)}
    out = {}
    for name, values in rows.items():
        value, n = number(values[0]), have.get(name, len(tables))
        low, high = (resampled_interval(values[1:], value, n) if bootstrap and value is not None else None) or (None, None)
        out[name] = {"value": value, "low": low, "high": high, "n": n}
    return out


def compare_pixels(
    tables: NDArray[Any], others: Sequence[NDArray[Any]], metric: str, *, seed: int = 0, bootstrap: int = 1000
) -> dict[str, float | int | None]:
    """Return a model's metric minus the mean metric of other models on the same patients, with a 95 % interval from paired resamples."""
    function = SEGMENTATION_METRICS[metric].function
    counts = np.concatenate([ones(len(tables)), bootstrap_counts(len(tables), bootstrap, seed=seed)])
    rows = function(tables, counts) - np.mean([function(other, counts) for other in others], axis=0)
    value, n = number(rows[0]), len(tables)
    low, high = (resampled_interval(rows[1:], value, n, scale="difference") if bootstrap and value is not None else None) or (None, None)
    return {"value": value, "low": low, "high": high, "n": n}


def extents(tables: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the extent of each class as drawn and as called, percent of the annotated pixels, each of shape (n, classes).

    Examples
    --------
    >>> drawn, called = extents(np.array([[[6, 2], [0, 2]]]))
    >>> drawn.tolist(), called.tolist()
    ([[80.0, 20.0]], [[60.0, 40.0]])
    """
    tables = np.asarray(tables, np.float64)
    whole = tables.sum((1, 2))[:, None]
    return 100 * ratio(tables.sum(2), whole), 100 * ratio(tables.sum(1), whole)


def extent_agreement(tables: NDArray[Any], classes: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    """Return for each class but the first how called extents agree with drawn ones over patients, in percentage points of the lung.

    ``bias`` (mean of called minus drawn) with the limits of agreement ``low`` and ``high``, mean absolute error ``mae``, Lin's ``ccc``, quadratic
    ``kappa`` of the bins of `EXTENT_BINS_PERCENT`, the mean ``drawn`` extent and ``n``. Sources: Bland & Altman, Lancet 1986;327:307; Lin, Biometrics
    1989;45:255; Cohen, Psychol Bull 1968;70:213.
    """
    drawn, called = extents(tables)
    out: dict[str, dict[str, float | int | None]] = {}
    for column, name in enumerate(classes):
        if column == 0:
            continue
        limits = bland_altman(drawn[:, column], called[:, column]) or {"bias": None, "low": None, "high": None}
        apart = np.abs(called[:, column] - drawn[:, column])
        found = {"drawn": drawn[:, column].mean() if len(drawn) else None, "mae": apart.mean() if len(apart) else None}
        numbers = {key: None if value is None else float(value) for key, value in (found | limits).items()}
        bins = (np.digitize(values[:, column], EXTENT_BINS_PERCENT) for values in (drawn, called))
        kappa = quadratic_kappa(*bins, grades=len(EXTENT_BINS_PERCENT) + 1)
        out[name] = numbers | {"ccc": concordance(drawn[:, column], called[:, column]), "kappa": kappa, "n": len(drawn)}
    return out
