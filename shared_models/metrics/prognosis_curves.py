"""What a report draws of a prognosis: survival by third of risk, AUC over time, ROC, calibration and net benefit at the horizons. Plain JSON values.

Arguments are those of `metrics.prognosis`; strata play no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_models.metrics.decision import THRESHOLDS, TOLD, benefit_ends
from shared_models.metrics.horizons import auc_at, benefit_rows_at, calibration_at, share_interval, share_rows
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval
from shared_models.metrics.spec import Counts, number, ones
from shared_models.survival.horizon import ALIVE, EVENT, censoring_weights, horizon_labels
from shared_models.survival.life_table import kaplan_meier, life_table

THIRDS = ("low", "middle", "high")
POINTS = 40
"""Times at which the AUC over time is drawn."""


def describe_prognosis(
    outcomes: ArrayLike,
    risks: ArrayLike,
    horizons: Sequence[float],
    *,
    absolute: bool = True,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
) -> dict[str, Any]:
    """Return the curves of one model; calibration and net benefit have 95 % intervals, of each bin or threshold by itself.

    Parameters
    ----------
    groups : sequence of length n, optional
        The patient of each row: patients are resampled with all their visits.
    seed, bootstrap : int
        Of the resamples; 0 leaves out the intervals that need them.

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
    counts = bootstrap_counts(len(truth), bootstrap, groups=groups, seed=seed) if bootstrap else None
    more: dict[str, Any] = {"groups": groups, "counts": counts}
    return drawn | {
        "calibration": {name: calibration_of(truth, own, horizon=horizon, **more) for name, (horizon, own) in columns.items()},
        "decision": {name: decision_of(truth, own, horizon=horizon, **more) for name, (horizon, own) in columns.items()},
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


def calibration_of(
    outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float, groups: Sequence[Any] | None = None, counts: Counts | None = None
) -> dict[str, Any] | None:
    """Return how stated risks and the shares seen go together at a horizon; None beyond the follow-up.

    Returns
    -------
    dict or None
        ``bins`` of `calibration_at`; of all patients the mean risk ``stated``, the share ``seen`` with its ``low`` and ``high``, and the cells
        ``ratio`` (seen to stated; 1 is ideal) and ``difference`` (seen minus stated; 0 is ideal), resampled: the stated risks are a sample, too.

    Source of the ratio and its logarithmic scale: Debray et al., BMJ 2017;356:i6460.
    """
    times = outcomes[:, 0]
    if times.max() < horizon:
        return None
    who = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    patients = patients_of(groups, len(risks))
    bins = calibration_at(outcomes, risks, horizon=horizon, bins=max(1, min(5, len(risks) // 10)), groups=who, counts=counts)
    stated, seen = float(risks.mean()), float(share_rows(outcomes, ones(len(risks)), horizon=horizon)[0])
    low, high = share_interval(outcomes, horizon=horizon, counts=counts, patients=patients) or (None, None)
    found: dict[str, Any] = {"bins": bins, "stated": stated, "seen": seen, "low": low, "high": high}
    rows = seen_and_stated_rows(outcomes, risks, counts, horizon=horizon) if counts is not None else None
    ends = None if rows is None else resampled_interval(rows[:, 0] - rows[:, 1], seen - stated, patients, scale="difference")
    found["difference"] = _cell(seen - stated, ends)
    if not stated:
        return found | {"ratio": _cell(None, None)}
    ends = None if rows is None or not seen else resampled_interval(rows[:, 0] / rows[:, 1], seen / stated, patients, scale="positive")
    return found | {"ratio": _cell(seen / stated, ends)}


def seen_and_stated_rows(outcomes: NDArray[np.float64], risks: NDArray[np.float64], counts: Counts, *, horizon: float) -> NDArray[np.float64]:
    """Return of each resample the share seen and the mean risk stated, shape (b, 2)."""
    return np.stack([share_rows(outcomes, counts, horizon=horizon), counts @ risks / np.maximum(counts.sum(axis=1), 1e-300)], axis=1)


def decision_of(
    outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float, groups: Sequence[Any] | None = None, counts: Counts | None = None
) -> dict[str, Any] | None:
    """Return the net benefit of the model and of acting on all, by threshold; acting on none is worth 0. None beyond the follow-up.

    Returns
    -------
    dict or None
        ``thresholds``, ``model`` and ``all`` with their ends ``model_low``, ``model_high``, ``all_low``, ``all_high`` (None where resamples say
        nothing), and ``told``: at each of `TOLD` the cells ``model``, ``all`` and ``over_all``, their difference on the same patients.
    """
    times = outcomes[:, 0]
    if times.max() < horizon:
        return None
    patients = patients_of(groups, len(risks))
    drawn = np.concatenate([ones(len(risks)), *([] if counts is None else [counts])])
    rows = {
        name: benefit_rows_at(outcomes, own, drawn, horizon=horizon, thresholds=THRESHOLDS)
        for name, own in (("model", risks), ("all", np.ones(len(risks))))
    }
    rows["over_all"] = rows["model"] - rows["all"]
    ends = {name: benefit_ends(of[1:], of[0].tolist(), patients) if counts is not None else [None] * len(THRESHOLDS) for name, of in rows.items()}
    found: dict[str, Any] = {"thresholds": THRESHOLDS.tolist()}
    for name in ("model", "all"):
        found |= {name: rows[name][0].tolist(), f"{name}_low": [end and end[0] for end in ends[name]]}
        found |= {f"{name}_high": [end and end[1] for end in ends[name]]}
    places = {f"{t:g}": int(np.abs(THRESHOLDS - t).argmin()) for t in TOLD}
    return found | {"told": {t: {name: _cell(float(rows[name][0, place]), ends[name][place]) for name in rows} for t, place in places.items()}}


def told_at_horizons(described: dict[str, Any]) -> dict[str, Any]:
    """Return of `describe_prognosis` what is told in figures: by horizon ``calibration`` (all but the bins) and ``net_benefit`` by threshold.

    Examples
    --------
    >>> told_at_horizons({"calibration": {"1": None}, "decision": {"1": None}})
    {'1': {'calibration': None, 'net_benefit': None}}
    """
    found = {}
    for horizon, calibration in described["calibration"].items():
        decision = described["decision"][horizon]
        whole = calibration and {
            "stated": calibration["stated"],
            "seen": {"value": calibration["seen"], "low": calibration["low"], "high": calibration["high"]},
            "ratio": calibration["ratio"],
            "difference": calibration["difference"],
        }
        found[horizon] = {"calibration": whole, "net_benefit": decision and decision["told"]}
    return found


def _cell(value: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {"value": value, "low": low, "high": high}
