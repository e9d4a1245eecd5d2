"""Entries for case-level classification: shares of correct decisions, and one-vs-rest ranking averaged over classes.

The decision is the most probable class (the first one among equals). All functions have the signature of a metric entry, see `spec`.
A class is *defined* for a ranking metric when the cases hold both it and another class; means run over defined classes only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared_models.metrics.intervals import newcombe_auroc, wilson
from shared_models.metrics.ranking import auroc, auroc_rows, average_precision_rows, sensitivity_rows
from shared_models.metrics.spec import Counts, Interval, Rows, mean_of_defined, ratio


def confusion_rows(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> NDArray[np.float64]:
    """Return the confusion matrix of each resample, shape (b, k, k): axis 1 is the true class, axis 2 the predicted one."""
    cases, k = probabilities.shape
    cells = np.zeros((cases, k * k))
    cells[np.arange(cases), labels * k + (probabilities.argmax(axis=1) if cases else 0)] = 1.0
    return (counts @ cells).reshape(len(counts), k, k)


def confusion_matrix(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many cases of each true class (rows) were called which class (columns).

    Examples
    --------
    >>> confusion_matrix(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]))
    array([[1, 0],
           [1, 1]])
    """
    return confusion_rows(labels, probabilities, np.ones((1, len(labels))))[0].astype(np.int64)


def accuracy(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the share of cases whose most probable class is the true one.

    Examples
    --------
    >>> accuracy(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]), np.ones((1, 3))).round(3)
    array([0.667])
    """
    return ratio(np.einsum("bii->b", confusion_rows(labels, probabilities, counts)), counts.sum(axis=1))


def balanced_accuracy(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the mean over classes present of the share of that class's cases that are recognised (mean recall).

    Source: Brodersen et al., ICPR 2010.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]), np.ones((1, 3)))
    array([0.75])
    """
    confusion = confusion_rows(labels, probabilities, counts)
    return mean_of_defined(ratio(np.einsum("bii->ib", confusion), confusion.sum(axis=2).T))


def macro_f1(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the mean of 2 TP / (2 TP + FP + FN) over the classes that occur, be it as truth or as prediction.

    Examples
    --------
    >>> macro_f1(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]), np.ones((1, 3))).round(3)
    array([0.667])
    """
    confusion = confusion_rows(labels, probabilities, counts)
    occurs = confusion.sum(axis=2) + confusion.sum(axis=1)
    return mean_of_defined(ratio(2.0 * np.einsum("bii->ib", confusion), occurs.T))


def _one_vs_rest(rows: Callable[..., Rows], labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts, *more: Any) -> Rows:
    return mean_of_defined(np.stack([rows(labels == c, probabilities[:, c], counts, *more) for c in range(probabilities.shape[1])]))


def auroc_macro(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the mean over defined classes of the one-vs-rest AUROC.

    Each class weighs the same. Source: Fawcett, Pattern Recognit Lett 2006;27:861 (section 10), with equal weights.

    Examples
    --------
    >>> auroc_macro(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]), np.ones((1, 3)))
    array([1.])
    """
    return _one_vs_rest(auroc_rows, labels, probabilities, counts)


def auprc_macro(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the mean over defined classes of the one-vs-rest average precision. Chance is the class's prevalence, not 0.5."""
    return _one_vs_rest(average_precision_rows, labels, probabilities, counts)


def sensitivity_at_specificity(
    labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts, *, specificity: Annotated[float, Field(gt=0, lt=1)] = 0.9
) -> Rows:
    """Return the mean over defined classes of the highest sensitivity that keeps `specificity`, threshold chosen on the same cases."""
    return _one_vs_rest(sensitivity_rows, labels, probabilities, counts, specificity)


def accuracy_interval(labels: NDArray[Any], probabilities: NDArray[Any]) -> Interval:
    """Return Wilson's interval of the accuracy, one case a patient."""
    return wilson(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))


def recall_interval(labels: NDArray[Any], probabilities: NDArray[Any]) -> Interval:
    """Return the mean of Wilson's interval ends over the classes present: wide, but honest for a perfect score in a small sample."""
    confusion = confusion_matrix(labels, probabilities)
    return _mean_ends([wilson(int(row[c]), int(row.sum())) for c, row in enumerate(confusion)])


def auroc_interval(labels: NDArray[Any], probabilities: NDArray[Any]) -> Interval:
    """Return the mean of Newcombe's interval ends over the defined classes: wide, but honest for a perfect score in a small sample."""
    return _mean_ends([class_auroc_interval(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])])


def class_auroc_interval(truth: NDArray[Any], scores: NDArray[Any]) -> Interval:
    """Return Newcombe's interval of one AUROC, one case a patient."""
    value = auroc(truth, scores)
    return None if value is None else newcombe_auroc(value, int(np.sum(truth)), int(np.sum(~np.asarray(truth, bool))))


def _mean_ends(ends: list[Interval]) -> Interval:
    known = [pair for pair in ends if pair is not None]
    return (sum(low for low, _ in known) / len(known), sum(high for _, high in known) / len(known)) if known else None
