"""From predictions to a table of metrics with intervals, a paired comparison of two models, and the curves of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.choices import Choice, look_up, pick
from shared_models.core.errors import BadInput
from shared_models.metrics.calibration import confidence_and_truth, reliability_table
from shared_models.metrics.classification import class_auroc_interval, confusion_matrix
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.ranking import auroc, auroc_rows, roc_points
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval
from shared_models.metrics.spec import Counts, Interval, MetricSpec, Rows, number, ones

CELLS_AT_ONCE = 2_000_000
"""Counts handed to a metric at once: keeps the bootstrap of many slices within some 100 MB."""


def as_predictions(labels: Any, probabilities: Any, classes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return checked labels, shape (n,), as indices into `classes`, and probabilities, shape (n, k).

    Parameters
    ----------
    labels : array-like of int or str, shape (n,)
        Class index or class name of each case.
    probabilities : array-like, shape (n, k), or (n,) or (n, 1) for two classes
        Rows that sum to 1 (within 0.001); a single column is P(second class).
    classes : sequence of str
        At least 2 names.

    Raises
    ------
    BadInput
        Shapes do not fit, a label is unknown, or a probability is not one. No value of a case is in the message.

    Examples
    --------
    >>> as_predictions(["no", "yes"], [0.25, 0.75], ["no", "yes"])[1]
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """
    k = len(classes)
    if k < 2 or len(set(classes)) != k or "macro" in classes:
        raise BadInput("classes are two or more different names, none of them 'macro'", value=list(classes))
    p = np.asarray(probabilities, np.float64)
    if k == 2 and (p.ndim == 1 or p.shape[1:] == (1,)):
        p = np.stack([1.0 - p.reshape(-1), p.reshape(-1)], axis=1)
    if p.size == 0:
        p = p.reshape(0, k)
    y = np.asarray(labels).reshape(-1)
    if p.ndim != 2 or p.shape != (y.size, k):
        raise BadInput("probabilities have the shape (cases, classes)", value=p.shape, remedy=f"expected {(y.size, k)}")
    if y.dtype.kind in "UO":
        places = {name: place for place, name in enumerate(classes)}
        y = np.array([places.get(name, -1) for name in y.tolist()], np.int64)
    if y.size and (y.dtype.kind not in "iub" or y.min() < 0 or y.max() >= k):
        raise BadInput(f"labels are indices 0 to {k - 1} or names of classes", value=list(classes))
    if not np.isfinite(p).all() or (p.size and (p.min() < -1e-6 or np.abs(p.sum(axis=1) - 1.0).max() > 1e-3)):
        raise BadInput("probabilities are finite, not negative and sum to 1 in each case", remedy="apply softmax to a network's output")
    return y.astype(np.int64), np.clip(p, 0.0, 1.0)


def _class_spec(c: int, name: str) -> MetricSpec:
    def closed_form(labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[float, float] | None:
        return class_auroc_interval(labels == c, probabilities[:, c])

    return MetricSpec(
        function=lambda labels, probabilities, counts: auroc_rows(labels == c, probabilities[:, c], counts),
        title=f"AUROC, {name} against the rest",
        better="higher",
        means=f"How often a case of {name} gets a higher probability of {name} than a case that is not.",
        source="Hanley & McNeil, Radiology 1982;143:29; interval: Newcombe, Stat Med 2006;25:559",
        closed_form=closed_form,
        closed_form_when="always",
    )


def _chosen(table: Mapping[str, MetricSpec], classes: Sequence[str], metrics: Sequence[str | Choice] | None) -> dict[str, tuple[MetricSpec, Any]]:
    everything = {**table, **{f"auroc_{name}": _class_spec(c, name) for c, name in enumerate(classes)}}
    wanted = [Choice(name=m) if isinstance(m, str) else m for m in (everything if metrics is None else metrics)]
    return {
        choice.name: (look_up(everything, choice.name, kind="metric"), pick(everything, choice, kind="metric", get=lambda spec: spec.function))
        for choice in wanted
    }


def metric_rows(spec: MetricSpec, labels: NDArray[np.int64], probabilities: NDArray[np.float64], counts: Counts) -> Rows:
    """Return a metric for each row of counts, shape (rows,): how often each of the n cases counts, shape (rows, n); NaN is undefined."""
    return _in_blocks(spec.function, labels, probabilities, counts)


def _in_blocks(function: Any, y: NDArray[np.int64], p: NDArray[np.float64], counts: Counts) -> Rows:
    step = max(1, CELLS_AT_ONCE // max(1, y.size))
    return np.concatenate([function(y, p, counts[start : start + step]) for start in range(0, len(counts), step)])


def _interval(spec: MetricSpec, value: float, rows: Rows, y: NDArray[np.int64], p: NDArray[np.float64], one_each: bool, patients: int) -> Interval:
    if one_each and spec.closed_form and spec.closed_form_when == "always":
        return spec.closed_form(y, p)
    ends = resampled_interval(rows, value, patients, scale=spec.scale)
    return spec.closed_form(y, p) if ends is None and one_each and spec.closed_form else ends


def evaluate(
    table: Mapping[str, MetricSpec],
    labels: Any,
    probabilities: Any,
    classes: Sequence[str],
    *,
    metrics: Sequence[str | Choice] | None,
    groups: Sequence[Any] | None,
    seed: int,
    bootstrap: int,
) -> dict[str, dict[str, Any]]:
    """Compute the metrics of `table`; see ``shared_models.metrics.score``, which calls this with ``METRICS``."""
    y, p = as_predictions(labels, probabilities, classes)
    patients = patients_of(groups, y.size)
    one_each = patients == y.size
    counts = np.concatenate([ones(y.size), bootstrap_counts(y.size, bootstrap, groups=groups, seed=seed)])
    present = np.bincount(y, minlength=len(classes))
    scores: dict[str, dict[str, Any]] = {}
    for name, (spec, function) in _chosen(table, classes, metrics).items():
        knobs = getattr(function, "keywords", {})
        if spec.estimate:
            found: dict[str, Any] = spec.estimate(y, p, groups, **knobs) | ({} if bootstrap else {"low": None, "high": None})
        else:
            rows = _in_blocks(function, y, p, counts)
            value, ends = number(rows[0]), None
            if value is not None and bootstrap:
                drawn = spec.interval(y, p, counts[1:], **knobs) if spec.interval else None
                ends = drawn if spec.interval else _interval(spec, value, rows[1:], y, p, one_each, patients)
            low, high = ends or (None, None)
            found = {"value": value, "low": low, "high": high}
        scores[name] = found | {"n": int(y.size)}
        if groups is not None:
            scores[name]["patients"] = patients
        if spec.averages_classes:
            scores[name]["classes"] = int(np.count_nonzero((present > 0) & (present < y.size)))
    return scores


def compare(
    spec: MetricSpec,
    labels: Any,
    probabilities: Any,
    others: Sequence[Any],
    classes: Sequence[str],
    *,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
) -> dict[str, float | int | None]:
    """Return a model's metric minus the mean metric of other models on the same cases, with a 95 % interval from paired resamples of patients.

    All models are scored on the same resamples, so what they share cancels. An interval that excludes 0 is evidence of a difference.

    Parameters
    ----------
    spec : MetricSpec
        The metric.
    labels : array-like, shape (n,)
        True classes, as in `as_predictions`.
    probabilities : array-like, shape (n, k)
        The model's.
    others : sequence of array-like, each of shape (n, k)
        At least one other model's; with several (hospitals that train alone) the mean of *their metrics* is taken, not of their probabilities.
    classes : sequence of str
        Names of the k classes.
    groups, seed, bootstrap
        As in ``score``.

    Examples
    --------
    >>> from shared_models.metrics import METRICS
    >>> p = [[.9, .1], [.4, .6], [.3, .7], [.8, .2]]
    >>> compare(METRICS["auroc_macro"], [0, 1, 1, 0], p, [p], ["no", "yes"])
    {'value': 0.0, 'low': 0.0, 'high': 0.0, 'n': 4}
    """
    y, p = as_predictions(labels, probabilities, classes)
    if not others:
        raise BadInput("a comparison needs at least one other model")
    counts = np.concatenate([ones(y.size), bootstrap_counts(y.size, bootstrap, groups=groups, seed=seed)])
    theirs = [_in_blocks(spec.function, y, as_predictions(labels, other, classes)[1], counts) for other in others]
    rows = _in_blocks(spec.function, y, p, counts) - np.mean(theirs, axis=0)
    value = number(rows[0])
    ends = None if value is None else resampled_interval(rows[1:], value, patients_of(groups, y.size), scale="difference")
    low, high = ends or (None, None)
    return {"value": value, "low": low, "high": high, "n": int(y.size)}


def describe_predictions(labels: Any, probabilities: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Return what a report draws of a set of predictions, as plain JSON values.

    Returns
    -------
    dict
        ``n``; ``classes``; ``counts`` (cases a class); ``roc``: class -> {``fpr``, ``tpr`` (at most 200 points), ``auroc``} or None where
        undefined; ``reliability``: rows of `reliability_table`; ``confusion``: rows are true classes, columns predicted ones.

    Examples
    --------
    >>> drawn = describe_predictions([0, 1, 1], [[.9, .1], [.2, .8], [.6, .4]], ["no", "yes"])
    >>> drawn["confusion"], drawn["roc"]["yes"]["auroc"]
    ([[1, 0], [1, 1]], 1.0)
    """
    y, p = as_predictions(labels, probabilities, classes)
    curve = partial(roc_points, most=200)
    roc = {}
    for c, name in enumerate(classes):
        points = curve(y == c, p[:, c])
        roc[name] = None if points is None else {**points, "auroc": auroc(y == c, p[:, c])}
    return {
        "n": int(y.size),
        "classes": list(classes),
        "counts": np.bincount(y, minlength=len(classes)).tolist(),
        "roc": roc,
        "reliability": reliability_table(*confidence_and_truth(y, p), bins=min(10, max(2, y.size // 10)), equal_mass=True) if y.size else [],
        "confusion": confusion_matrix(y, p).tolist(),
    }
