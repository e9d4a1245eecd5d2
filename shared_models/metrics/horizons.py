"""How well risks at a horizon hold: discrimination and error with weights for those who left early, calibration, net benefit.

`outcomes` has the shape (n, 3) of `metrics.survival`; `risks`, shape (n,), are P(event by the horizon). `counts`, shape (b, n), resample patients.
The weights are estimated on the patients judged, as one group: strata tell who is compared with whom in Harrell's C alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.spec import Counts, Rows, ratio
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


def calibration_at(outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float, bins: int = 5) -> list[dict[str, float]]:
    """Return by bin of equal numbers of patients: mean risk stated, share with the event by Kaplan-Meier with its 95 % limits, patients.

    A bin that nobody was followed in up to the horizon has no share and is left out.
    """
    order = np.argsort(risks, kind="stable")
    rows = []
    for members in np.array_split(order, max(1, min(bins, len(order)))):
        times, events = outcomes[members, 0], outcomes[members, 1]
        if not len(members) or (times.max() < horizon and not events.all()):
            continue
        curve = kaplan_meier(life_table(times, events))
        place = int(np.searchsorted(curve.times, horizon, side="right")) - 1
        seen, low, high = (1 - float(part[place]) if place >= 0 else 0.0 for part in (curve.values, curve.high, curve.low))
        rows.append({"stated": float(risks[members].mean()), "seen": seen, "low": low, "high": high, "n": len(members)})
    return rows


def net_benefit_at(
    outcomes: NDArray[np.float64], risks: NDArray[np.float64], *, horizon: float, thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the net benefit of acting on risks at or above each threshold, shape (thresholds,), true and false positives by Kaplan-Meier.

    ``P(event | acted on) P(acted on) - P(no event | acted on) P(acted on) t / (1 - t)``; 0 where nobody is acted on.

    Source: Vickers & Elkin, Med Decis Making 2006;26:565; with censoring: Vickers et al., BMC Med Inform Decis Mak 2008;8:53.
    """
    found = np.zeros(len(thresholds))
    for number, threshold in enumerate(thresholds):
        acted = risks >= threshold
        if acted.any():
            share = float(acted.mean())
            event = 1 - kaplan_meier(life_table(outcomes[acted, 0], outcomes[acted, 1])).at(horizon)
            found[number] = share * (event - (1 - event) * threshold / (1 - threshold))
    return found
