"""How well scores rank positives above negatives: AUROC, average precision, sensitivity at a specificity, ROC points.

`truth` is 0 or 1, shape (n,); `scores`, shape (n,), are higher for positives; only their order matters. Tied scores are one group throughout.
Functions ending in ``_rows`` take resampling counts (see `spec`); the others return one number or None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.spec import Counts, Rows, number, ones, ratio


def _groups(truth: NDArray[Any], scores: NDArray[Any], counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positives and negatives per group of tied scores, lowest score first, each of shape (b, groups)."""
    truth, scores = np.asarray(truth), np.asarray(scores, np.float64)
    if not scores.size:
        return np.zeros((len(counts), 0)), np.zeros((len(counts), 0))
    order = np.argsort(scores, kind="stable")
    starts = np.concatenate(([0], np.flatnonzero(np.diff(scores[order])) + 1))
    sorted_counts = counts[:, order]
    positives = np.add.reduceat(sorted_counts * truth[order], starts, axis=1)
    return positives, np.add.reduceat(sorted_counts, starts, axis=1) - positives


def auroc_rows(truth: NDArray[Any], scores: NDArray[Any], counts: Counts) -> Rows:
    """Return the area under the ROC curve of each resample: P(positive > negative) + P(tie) / 2.

    Parameters
    ----------
    truth, scores : ndarray, shape (n,)
        0 or 1, and the score.
    counts : ndarray, shape (b, n)
        Resampling counts.

    Returns
    -------
    ndarray, shape (b,)
        NaN without a positive or without a negative.

    Notes
    -----
    Mann-Whitney U by sorting once: O(n log n + b n). Hanley & McNeil, Radiology 1982;143:29.
    """
    positives, negatives = _groups(truth, scores, counts)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(axis=1)
    return ratio(wins, positives.sum(axis=1) * negatives.sum(axis=1))


def auroc(truth: NDArray[Any], scores: NDArray[Any]) -> float | None:
    """Return the area under the ROC curve, None without a positive or without a negative.

    Examples
    --------
    >>> auroc(np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2]))
    0.8333333333333334
    >>> auroc(np.array([1, 1]), np.array([.1, .4])) is None
    True
    """
    return number(auroc_rows(truth, scores, ones(len(scores)))[0])


def average_precision_rows(truth: NDArray[Any], scores: NDArray[Any], counts: Counts) -> Rows:
    """Return the average precision of each resample: the sum over thresholds of (recall step) x precision, tied scores as one threshold.

    Returns
    -------
    ndarray, shape (b,)
        NaN without a positive or without a negative. No interpolation (Davis & Goadrich, ICML 2006).
    """
    positives, negatives = (group[:, ::-1] for group in _groups(truth, scores, counts))
    caught = np.cumsum(positives, axis=1)
    precision = ratio(caught, caught + np.cumsum(negatives, axis=1))
    total = positives.sum(axis=1)
    summed = np.where(positives > 0, positives * precision, 0.0).sum(axis=1)
    return np.where(negatives.sum(axis=1) > 0, ratio(summed, total), np.nan)


def average_precision(truth: NDArray[Any], scores: NDArray[Any]) -> float | None:
    """Return the area under the precision-recall curve as a step function, None without a positive or without a negative.

    Examples
    --------
    >>> round(average_precision(np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2])), 6)
    0.805556
    """
    return number(average_precision_rows(truth, scores, ones(len(scores)))[0])


def sensitivity_rows(truth: NDArray[Any], scores: NDArray[Any], counts: Counts, specificity: float) -> Rows:
    """Return the highest sensitivity of each resample among thresholds that keep at least `specificity`; NaN where undefined."""
    positives, negatives = (group[:, ::-1] for group in _groups(truth, scores, counts))
    total = negatives.sum(axis=1, keepdims=True)
    allowed = np.cumsum(negatives, axis=1) <= (1.0 - specificity) * total + 1e-9
    caught = np.where(allowed, np.cumsum(positives, axis=1), 0.0).max(axis=1, initial=0.0)
    return np.where(total[:, 0] > 0, ratio(caught, positives.sum(axis=1)), np.nan)


def sensitivity_at(truth: NDArray[Any], scores: NDArray[Any], *, specificity: float = 0.9) -> float | None:
    """Return the highest sensitivity among thresholds whose specificity is at least `specificity`.

    The threshold is chosen on the same cases, so the number is optimistic; freeze the threshold on validation cases for a claim.

    Examples
    --------
    >>> sensitivity_at(np.array([0, 0, 0, 1, 1]), np.array([.1, .2, .6, .5, .9]), specificity=1.0)
    0.5
    """
    return number(sensitivity_rows(truth, scores, ones(len(scores)), specificity)[0])


def roc_points(truth: NDArray[Any], scores: NDArray[Any], *, most: int = 200) -> dict[str, list[float]] | None:
    """Return the corners of the ROC curve from (0, 0) to (1, 1), at most `most` of them; None where the curve is undefined.

    Points on a straight line between their neighbours are left out; thresholds are not given, since they are patients' scores.

    Examples
    --------
    >>> roc_points(np.array([0, 1, 1]), np.array([.1, .4, .35]))
    {'fpr': [0.0, 0.0, 1.0], 'tpr': [0.0, 1.0, 1.0]}
    """
    positives, negatives = (group[0, ::-1] for group in _groups(truth, scores, ones(len(scores))))
    if not positives.sum() or not negatives.sum():
        return None
    hits = np.concatenate(([0.0], np.cumsum(positives)))
    alarms = np.concatenate(([0.0], np.cumsum(negatives)))
    turns = np.diff(hits)[:-1] * np.diff(alarms)[1:] != np.diff(hits)[1:] * np.diff(alarms)[:-1]
    keep = np.flatnonzero(np.concatenate(([True], turns, [True])))
    if keep.size > most:
        keep = keep[np.unique(np.linspace(0, keep.size - 1, most).round().astype(int))]
    return {"fpr": (alarms[keep] / alarms[-1]).round(6).tolist(), "tpr": (hits[keep] / hits[-1]).round(6).tolist()}
