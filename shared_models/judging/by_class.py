"""Each class against the rest, with how many patients stand behind it: where an AUROC does not exist it is *undefined*, never .5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.calibration import bin_of, bins_of, calibration_line, reliability_table
from shared_models.metrics.calibration_error import calibration_error
from shared_models.metrics.calibration_intervals import calibration_cells
from shared_models.metrics.classification import class_auroc_interval
from shared_models.metrics.decision import decision_curve
from shared_models.metrics.intervals import bootstrap_counts, delong_interval, wilson
from shared_models.metrics.ranking import auroc, auroc_rows, average_precision_rows, sensitivity_at
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.scoring import as_predictions
from shared_models.metrics.sensitivity_interval import sensitivity_interval
from shared_models.metrics.spec import Counts, Interval, Rows, number, ratio

FEWEST = 2
"""Patients with, and without, a class that a figure with an interval needs."""


def class_table(
    labels: Any,
    probabilities: Any,
    classes: Sequence[str],
    *,
    patients: Sequence[Any] | None = None,
    least: int = FEWEST,
    specificity: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return, class by class: ``positives``, ``negatives``, ``auroc``, ``auprc``, ``sensitivity`` at fixed specificity, ``calibration``, ``ece``.

    Beside them ``delong``, the ends of DeLong's interval of the AUROC; ``slope`` and ``intercept`` of the calibration with theirs. The ECE is
    debiased (`calibration_error`) and has its ``plain`` figure with it.

    Parameters
    ----------
    labels : array-like, shape (n,)
        True classes, as in `as_predictions`.
    probabilities : array-like, shape (n, k)
        Of the model.
    classes : sequence of str
        Names of the k classes.
    patients : sequence, optional
        Whose each case is. Repeated patients are resampled together; without repeats the AUROC's interval is Newcombe's in closed form.
    least : int
        Fewest positive and negative patients behind a figure.
    specificity : float
        At which the sensitivity is read; its interval knows that the threshold was drawn, too (`sensitivity_interval`).

    Returns
    -------
    dict
        Each figure is ``{"value", "low", "high"}``; value None is *undefined*, and ``why`` says what is missing.

    Examples
    --------
    >>> table = class_table([0, 1] * 15, [[.8, .2], [.3, .7]] * 15, ["no", "yes"], bootstrap=0)
    >>> table["yes"]["positives"], table["yes"]["auroc"]["value"]
    (15, 1.0)
    >>> class_table([0, 0, 1], [[.8, .2], [.3, .7], [.1, .9]], ["no", "yes"])["yes"]["why"]
    '1 patient with it, 2 without: figures need 2 of each'
    """
    y, p = as_predictions(labels, probabilities, classes)
    who = np.asarray(list(range(y.size)) if patients is None else list(patients))
    counts = bootstrap_counts(y.size, bootstrap, groups=None if patients is None else who.tolist(), seed=seed)
    one_each = len(set(who.tolist())) == y.size
    return {name: _one(y == c, p[:, c], who, counts, one_each, least, specificity) for c, name in enumerate(classes)}


def class_curves(
    labels: Any,
    probabilities: Any,
    classes: Sequence[str],
    *,
    bins: int = 10,
    patients: Sequence[Any] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return class by class what a page draws: ``reliability`` (rows of `reliability_table`, bins of equal mass) and ``decision`` (`decision_curve`).

    Where `patients`, one name a case, repeat, the limits of both are resampled by patient. A reliability bin whose resamples are all alike keeps
    Wilson's limits, of so many patients as it has.

    Examples
    --------
    >>> drawn = class_curves([0, 1] * 15, [[.8, .2], [.3, .7]] * 15, ["no", "yes"])["yes"]
    >>> drawn["reliability"][0]["n"], drawn["decision"]["model"][20]
    (15, 0.5)
    """
    y, p = as_predictions(labels, probabilities, classes)
    few = max(2, min(bins, y.size // 10))
    who = np.arange(y.size) if patients is None else np.unique(np.asarray(list(patients)), return_inverse=True)[1]
    repeated = len(np.unique(who)) < y.size
    counts = bootstrap_counts(y.size, bootstrap, groups=who, seed=seed) if repeated else None

    def reliability(truth: NDArray[Any], scores: NDArray[Any]) -> list[dict[str, Any]]:
        if not y.size:
            return []
        rows = reliability_table(scores, truth, bins=few, equal_mass=True)
        return rows if counts is None else _by_patient(rows, bin_of(scores, few, equal_mass=True), truth, who, counts)

    return {
        name: {
            "reliability": reliability(y == c, p[:, c]),
            "decision": decision_curve(y == c, p[:, c], patients=who.tolist(), counts=counts),
        }
        for c, name in enumerate(classes)
    }


def _by_patient(rows: list[dict[str, Any]], where: NDArray[np.int64], truth: NDArray[Any], who: NDArray[Any], counts: Counts) -> list[dict[str, Any]]:
    """Return rows of `reliability_table` with limits for patients who have several cases."""
    found = []
    for row, bin in zip(rows, np.unique(where), strict=True):
        members = where == bin
        people = len(np.unique(who[members]))
        drawn = ratio(counts[:, members] @ truth[members], counts[:, members].sum(axis=1))
        ends = resampled_interval(drawn, float(truth[members].mean()), people) or wilson(round(float(truth[members].mean()) * people), people)
        low, high = ends or (0.0, 1.0)
        found.append({**row, "low": round(low, 6), "high": round(high, 6)})
    return found


def _one(
    truth: NDArray[Any], scores: NDArray[Any], who: NDArray[Any], counts: NDArray[Any], one_each: bool, least: int, specificity: float
) -> dict[str, Any]:
    with_it, without = len(set(who[truth].tolist())), len(set(who[~truth].tolist()))
    found: dict[str, Any] = {"positives": with_it, "negatives": without}
    if min(with_it, without) < least:
        noun = "patient" if with_it == 1 else "patients"
        nothing = {"value": None, "low": None, "high": None}
        why = f"{with_it} {noun} with it, {without} without: figures need {least} of each"
        cells = dict.fromkeys(("auroc", "auprc", "sensitivity", "slope", "intercept", "ece"), nothing)
        return {**found, "why": why, **cells, "calibration": None, "delong": None}
    ends = class_auroc_interval(truth, scores) if one_each else _resampled(auroc_rows, truth, scores, counts, len(set(who.tolist())))
    sensitivity, positives = sensitivity_at(truth, scores, specificity=specificity), int(truth.sum())
    hits = sensitivity_interval(truth, scores, counts, specificity=specificity)
    if hits is None and sensitivity is not None and one_each:
        hits = wilson(round(sensitivity * positives), positives)
    ones = np.ones((1, truth.size))
    precision = _resampled(average_precision_rows, truth, scores, counts, len(set(who.tolist())))
    return {
        **found,
        "why": "",
        "auroc": _cell(auroc(truth, scores), ends),
        "auprc": _cell(number(average_precision_rows(truth, scores, ones)[0]), precision),
        "sensitivity": _cell(sensitivity, hits),
        "delong": delong_interval(truth, scores) if one_each else None,
        "calibration": (line := calibration_line(truth, scores)),
        **(calibration_cells(truth, scores) if one_each else {name: _cell((line or {}).get(name), None) for name in ("slope", "intercept")}),
        "ece": calibration_error(scores, truth, who.tolist(), bins=bins_of(truth.size, 10)),
    }


def _resampled(rows: Callable[..., Rows], truth: NDArray[Any], scores: NDArray[Any], counts: Counts, patients: int) -> Interval:
    value = number(rows(truth, scores, np.ones((1, truth.size)))[0])
    return None if value is None else resampled_interval(rows(truth, scores, counts), value, patients)


def _cell(value: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {"value": value, "low": low, "high": high}
