"""How well risks at a horizon hold: discrimination and error with weights for those who left early, calibration, net benefit.

`outcomes` has the shape (n, 3) of `metrics.survival`; `risks`, shape (n,), are P(event by the horizon). `counts`, shape (b, n), resample patients.
The weights are estimated on the patients judged, as one group: strata tell who is compared with whom in Harrell's C alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.intervals import wilson
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.spec import Counts, Interval, Rows, ones, ratio
from shared_models.survival.horizon import ALIVE, EVENT, censoring_weights, horizon_labels
from shared_models.survival.life_table import kaplan_meier, life_table


def auc_at(outcomes: NDArray[np.float64], risks: NDArray[np.float64], counts: Counts, *, horizon: float) -> Rows:
    """Return cumulative/dynamic AUC: of one with the event by the horizon and one alive then, how often the first has the higher risk.

    Cases weigh ``1 / G(T-)``; equal risks count one half. NaN without a case or a control.

    Source: Uno et al., J Am Stat Assoc 2007;102:527; Hung & Chiang, Can J Stat 2010;38:8.
    """
    times, events = outcomes[:, 0], outcomes[:, 1]
    labels, weights = horizon_labels(times, events, horizon), np.nan_to_num(censoring_weights(times, events, horizon))
    cases, controls = labels == EVENT, labels == ALIVE
    won = np.where(risks[cases, None] > risks[controls], 1.0, 0.5 * (risks[cases, None] == risks[controls]))
    case, control = counts[:, cases] * weights[cases], counts[:, controls]
    return ratio((case * (control @ won.T)).sum(1), case.sum(1) * control.sum(1))


def brier_at(outcomes: NDArray[np.float64], risks: NDArray[np.float64], counts: Counts, *, horizon: float) -> Rows:
    """Return the Brier score at a horizon, weighted for censoring: mean squared error of the risk.

    Source: Graf et al., Stat Med 1999;18:2529.
    """
    times, events = outcomes[:, 0], outcomes[:, 1]
    labels, weights = horizon_labels(times, events, horizon), censoring_weights(times, events, horizon)
    error = np.where(weights > 0, weights * ((labels == EVENT) - risks) ** 2, 0.0) if np.isfinite(weights).all() else np.full(len(times), np.nan)
    return ratio((counts * error).sum(1), counts.sum(1))


def uno_rows(outcomes: NDArray[np.float64], scores: NDArray[np.float64], counts: Counts, *, horizon: float) -> Rows:
    """Return Uno's C up to a horizon: Harrell's with pairs weighted by ``1 / G(T-)^2``, so that it does not hang on who was lost when.

    Equal times are no pair unless one was last seen then; equal scores count one half.

    Source: Uno et al., Stat Med 2011;30:1105.
    """
    times, events = outcomes[:, 0], outcomes[:, 1]
    weights = np.nan_to_num(censoring_weights(times, events, float(np.inf))) ** 2 if len(times) else times
    first = (events == 1) & (times < horizon)
    later = (times[first, None] < times) | ((times[first, None] == times) & (events == 0))
    won = np.where(scores[first, None] > scores, 1.0, 0.5 * (scores[first, None] == scores)) * later
    own = counts[:, first] * weights[first]
    return ratio((own * (counts @ won.T)).sum(1), (own * (counts @ later.T.astype(float))).sum(1))


def integrated_brier(outcomes: NDArray[np.float64], risks: NDArray[np.float64], horizons: NDArray[np.float64], counts: Counts) -> Rows:
    """Return the mean over time of the Brier score, by trapezoids between the horizons; `risks` has the shape (n, horizons).

    Source: Graf et al., Stat Med 1999;18:2529.
    """
    scores = np.stack([brier_at(outcomes, risks[:, k], counts, horizon=float(t)) for k, t in enumerate(horizons)])
    return np.trapezoid(scores, horizons, axis=0) / (horizons[-1] - horizons[0])


def share_rows(outcomes: NDArray[np.float64], counts: Counts, *, horizon: float) -> Rows:
    """Return the share with the event by the horizon of each resample, by Kaplan-Meier; NaN of a resample without anybody.

    Examples
    --------
    >>> outcomes = np.array([[1.0, 1, 0], [2, 0, 0], [3, 1, 0], [4, 0, 0]])
    >>> share_rows(outcomes, np.array([[1.0, 1, 1, 1], [0, 0, 2, 2], [0, 0, 0, 0]]), horizon=3.5).tolist()
    [0.625, 0.5, nan]
    """
    order = np.argsort(outcomes[:, 0], kind="stable")
    times, drawn = outcomes[order, 0], counts[:, order]
    _, first = np.unique(times[times <= horizon], return_index=True)
    everybody = drawn.sum(axis=1)
    if not len(first):
        return np.where(everybody > 0, 0.0, np.nan)
    events = np.add.reduceat(drawn[:, : (times <= horizon).sum()] * outcomes[order, 1][times <= horizon], first, axis=1)
    at_risk = everybody[:, None] - np.column_stack([np.zeros(len(drawn)), np.cumsum(drawn, axis=1)])[:, first]
    steps = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    return np.where(everybody > 0, 1 - np.prod(1 - steps, axis=1), np.nan)


def share_interval(outcomes: NDArray[np.float64], *, horizon: float, counts: Counts | None = None, patients: int | None = None) -> Interval:
    """Return the 95 % limits of the share with the event by the horizon by Kaplan-Meier; None of nobody.

    Where every patient has one row, those of log(-log) with Greenwood's variance; where none or all have had the event they would shut, and Wilson's
    stand there, of those still followed at the horizon, or of all. Where patients have several rows, `resampled_interval` over `counts`.

    Parameters
    ----------
    outcomes : ndarray, shape (n, 3)
        As above.
    counts : ndarray, shape (b, n), optional
        Resamples of whole patients.
    patients : int, optional
        How many there are; by default as many as rows.

    Examples
    --------
    >>> alive = np.array([[5.0, 0, 0]] * 20)
    >>> [round(end, 3) for end in share_interval(alive, horizon=3)]
    [0.0, 0.161]
    """
    times, events = outcomes[:, 0], outcomes[:, 1]
    n = len(times) if patients is None else patients
    if not len(times):
        return None
    seen = float(share_rows(outcomes, ones(len(times)), horizon=horizon)[0])
    if 0 < seen < 1 and n == len(times):
        curve = kaplan_meier(life_table(times, events))
        place = int(np.searchsorted(curve.times, horizon, side="right")) - 1
        return 1 - float(curve.high[place]), 1 - float(curve.low[place])
    if 0 < seen < 1:
        return None if counts is None else resampled_interval(share_rows(outcomes, counts, horizon=horizon), seen, n)
    # Scans of one patient tell less than as many patients: of rows, the part that the patients are.
    told = round((len(times) if seen else int((times >= horizon).sum())) * n / len(times))
    return wilson(told if seen else 0, told)


def calibration_at(
    outcomes: NDArray[np.float64],
    risks: NDArray[np.float64],
    *,
    horizon: float,
    bins: int = 5,
    groups: NDArray[Any] | None = None,
    counts: Counts | None = None,
) -> list[dict[str, Any]]:
    """Return by bin of equal numbers of rows: mean risk stated, share with the event by Kaplan-Meier with `share_interval`, rows.

    A bin that nobody was followed in up to the horizon has no share and is left out. Bins are laid once and kept in all resamples.
    """
    order = np.argsort(risks, kind="stable")
    rows = []
    for members in np.array_split(order, max(1, min(bins, len(order)))):
        own = outcomes[members]
        if not len(members) or (own[:, 0].max() < horizon and not own[:, 1].all()):
            continue
        seen = float(share_rows(own, ones(len(own)), horizon=horizon)[0])
        patients = len(members) if groups is None else len(np.unique(groups[members]))
        low, high = share_interval(own, horizon=horizon, counts=None if counts is None else counts[:, members], patients=patients) or (None, None)
        rows.append({"stated": float(risks[members].mean()), "seen": seen, "low": low, "high": high, "n": len(members)})
    return rows


def benefit_rows_at(
    outcomes: NDArray[np.float64], risks: NDArray[np.float64], counts: Counts, *, horizon: float, thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `net_benefit_at` of each resample, shape (b, thresholds); NaN of a resample without anybody."""
    everybody, found = counts.sum(axis=1), np.zeros((len(counts), len(thresholds)))
    acted: NDArray[np.bool_] | None = None
    share = event = np.zeros(len(counts))
    for number, threshold in enumerate(thresholds):
        now = risks >= threshold
        if acted is None or (now != acted).any():  # neighbouring thresholds often act on the same patients
            share = ratio(counts[:, now].sum(axis=1), everybody)
            event, acted = np.nan_to_num(share_rows(outcomes[now], counts[:, now], horizon=horizon)), now
        found[:, number] = share * (event - (1 - event) * threshold / (1 - threshold))
    return found


def net_benefit_at(
    outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float, thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the net benefit of acting on risks at or above each threshold, shape (thresholds,), true and false positives by Kaplan-Meier.

    ``P(event | acted on) P(acted on) - P(no event | acted on) P(acted on) t / (1 - t)``; 0 where nobody is acted on.

    Source: Vickers & Elkin, Med Decis Making 2006;26:565; with censoring: Vickers et al., BMC Med Inform Decis Mak 2008;8:53.
    """
    return benefit_rows_at(outcomes, risks, ones(len(risks)), horizon=horizon, thresholds=thresholds)[0]
