"""What a report draws of a prognosis: survival by third of risk, AUC over time, ROC, calibration and net benefit at the horizons. Plain JSON values.

Arguments are those of `metrics.prognosis`; strata play no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_models.metrics.horizons import auc_at, calibration_at, net_benefit_at
from shared_models.metrics.spec import number, ones
from shared_models.survival.horizon import ALIVE, EVENT, censoring_weights, horizon_labels, risk_by
from shared_models.survival.life_table import kaplan_meier, life_table

THIRDS = ("low", "middle", "high")
THRESHOLDS = np.arange(0.05, 0.605, 0.01)
"""Risks from which on one would act: the range of a decision curve."""

POINTS = 40
"""Times at which the AUC over time is drawn."""


def describe_prognosis(outcomes: ArrayLike, risks: ArrayLike, horizons: Sequence[float], *, absolute: bool = True) -> dict[str, Any]:
    """Return the curves of one model.

    Returns
    -------
    dict
        ``thirds`` (`by_third`), ``auc`` (`auc_over_time`), ``roc`` by horizon, and of probabilities ``calibration`` and ``decision`` by horizon;
        None where a horizon lies beyond the follow-up, or nobody had the event.

    Examples
    --------
    >>> drawn = describe_prognosis([[1, 1, 0], [2, 1, 0], [4, 0, 0], [5, 0, 0]], [[0.9], [0.8], [0.2], [0.1]], [3], absolute=False)
    >>> drawn["roc"]["3"]["tpr"], [third["name"] for third in drawn["thirds"]]
    ([0.0, 0.5, 1.0, 1.0, 1.0], ['low', 'middle', 'high'])
    """
    truth, risk = np.asarray(outcomes, np.float64).reshape(-1, 3), np.asarray(risks, np.float64)
    if not len(truth):
        return {"n": 0, "events": 0, "thirds": [], "auc": {"times": [], "values": []}, "roc": {}, "calibration": {}, "decision": {}}
    columns = {f"{horizon:g}": (horizon, risk[:, place if absolute else -1]) for place, horizon in enumerate(horizons)}
    drawn: dict[str, Any] = {
        "n": len(truth),
        "events": int(truth[:, 1].sum()),
        "thirds": by_third(truth, risk[:, -1], horizons[-1]),
        "auc": auc_over_time(truth, risk[:, -1], horizons[-1]),
        "roc": {name: roc_at(truth, own, horizon=horizon) for name, (horizon, own) in columns.items()},
    }
    if not absolute:
        return drawn | {"calibration": {}, "decision": {}}
    calibration = {name: calibration_of(truth, own, horizon=horizon) for name, (horizon, own) in columns.items()}
    return drawn | {
        "calibration": calibration,
        "decision": {name: decision_of(truth, own, horizon=horizon) for name, (horizon, own) in columns.items()},
    }


def by_third(outcomes: NDArray[np.float64], risks: NDArray[np.float64], last: float) -> list[dict[str, Any]]:
    """Return the Kaplan-Meier curve of each third of the risk up to time `last`, with its limits and the numbers at risk at whole times."""
    ticks = [float(tick) for tick in range(math.ceil(last) + 1)]
    rows = []
    for name, members in zip(THIRDS, np.array_split(np.argsort(risks, kind="stable"), 3), strict=True):
        times, events = outcomes[members, 0], outcomes[members, 1]
        curve = kaplan_meier(life_table(times, events))
        keep = curve.times <= ticks[-1]
        parts = {"times": curve.times, "survival": curve.values, "low": curve.low, "high": curve.high}
        row: dict[str, Any] = {"name": name, "n": len(members), "events": int(events.sum())}
        row |= {key: [0.0 if key == "times" else 1.0, *values[keep].tolist()] for key, values in parts.items()}
        rows.append(row | {"ticks": ticks, "at_risk": [int((times >= tick).sum()) for tick in ticks]})
    return rows


def auc_over_time(outcomes: NDArray[np.float64], risks: NDArray[np.float64], last: float) -> dict[str, list[float | None]]:
    """Return the cumulative/dynamic AUC of one score at times up to `last`; None where it is undefined."""
    times = [last * (place + 1) / POINTS for place in range(POINTS)]
    values = [number(auc_at(outcomes, risks, ones(len(risks)), horizon=time)[0]) for time in times]
    return {"times": list(times), "values": values}


def roc_at(outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float) -> dict[str, Any] | None:
    """Return the ROC curve at a horizon: cases have had the event by then and weigh ``1 / G(T-)``, controls are known to live.

    Source: Uno et al., J Am Stat Assoc 2007;102:527. Its area is `auc_at`.
    """
    times, events = outcomes[:, 0], outcomes[:, 1]
    labels, weights = horizon_labels(times, events, horizon), np.nan_to_num(censoring_weights(times, events, horizon))
    case, control = np.where(labels == EVENT, weights, 0.0), (labels == ALIVE).astype(np.float64)
    if not case.sum() or not control.sum():
        return None
    cuts, place = np.unique(-risks, return_inverse=True)
    shares = [np.concatenate([[0.0], np.cumsum(np.bincount(place, part, minlength=len(cuts)) / part.sum())]) for part in (control, case)]
    fpr, tpr = (np.minimum(share, 1.0).tolist() for share in shares)
    return {"fpr": fpr, "tpr": tpr, "auc": number(auc_at(outcomes, risks, ones(len(risks)), horizon=horizon)[0])}


def calibration_of(outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float) -> dict[str, Any] | None:
    """Return the bins of `calibration_at`, and of all patients the mean risk stated and the share seen; None beyond the follow-up."""
    times, events = outcomes[:, 0], outcomes[:, 1]
    if times.max() < horizon:
        return None
    bins = calibration_at(outcomes, risks, horizon=horizon, bins=max(1, min(5, len(risks) // 10)))
    return {"bins": bins, "stated": float(risks.mean()), "seen": risk_by(times, events, horizon)}


def decision_of(outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float) -> dict[str, Any] | None:
    """Return the net benefit of the model and of acting on all, by threshold; acting on none is worth 0. None beyond the follow-up."""
    times, events = outcomes[:, 0], outcomes[:, 1]
    if times.max() < horizon:
        return None
    share = risk_by(times, events, horizon)
    model = net_benefit_at(outcomes, risks, horizon=horizon, thresholds=THRESHOLDS)
    return {"thresholds": THRESHOLDS.tolist(), "model": model.tolist(), "all": (share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)).tolist()}
