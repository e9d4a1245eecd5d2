"""What is known of a patient at a horizon, and how much each one counts where some left before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_models.survival.censoring import Staying, staying_of
from shared_models.survival.life_table import kaplan_meier, life_table

EVENT, ALIVE, UNKNOWN = 1, 0, -1


def horizon_labels(times: ArrayLike, events: ArrayLike, horizon: float) -> NDArray[np.int64]:
    """Return of each patient `EVENT` (by the horizon), `ALIVE` (seen at or after it without) or `UNKNOWN` (last seen before it).

    The unknown is no 0: taken for alive it hides risk, left out it exaggerates it.

    Parameters
    ----------
    times, events : sequence, length n
        Time, and 1 for an event or 0 for last seen.
    horizon : float
        In the unit of `times`.

    Examples
    --------
    >>> horizon_labels([1, 2, 3, 6], [1, 0, 0, 1], 3).tolist()
    [1, -1, 0, 0]
    """
    t, e = np.asarray(times, np.float64), np.asarray(events, np.float64)
    return np.where((t <= horizon) & (e == 1), EVENT, np.where(t >= horizon, ALIVE, UNKNOWN)).astype(np.int64)


def censoring_weights(
    times: NDArray[np.float64], events: NDArray[np.float64], horizon: float, *, known: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> NDArray[np.float64]:
    """Return how much each patient counts at a horizon: 1 / P(still observed).

    Parameters
    ----------
    times, events : ndarray, shape (n,)
        Of the patients who are judged.
    horizon : float
        Within the follow-up.
    known : tuple of ndarray, optional
        Times and events that the censoring is estimated from (training patients); by default those judged.

    Returns
    -------
    ndarray, shape (n,)
        ``1 / G(T-)`` of those with the event by the horizon and ``1 / G(horizon)`` of those alive then, G the Kaplan-Meier curve of censoring
        (Graf et al., Stat Med 1999;18:2529); 0 for the unknown; NaN where G is 0, and for the unknown beyond
        the follow-up, where nobody stands for them.

    Examples
    --------
    >>> censoring_weights(np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 1, 1]), 3.0).round(4).tolist()
    [1.0, 0.0, 1.5, 1.5]
    """
    from_times, from_events = (times, events) if known is None else known
    curve = staying_of(from_times, from_events)
    labels = horizon_labels(times, events, horizon)
    share = np.where(labels == EVENT, curve.at(times, before=True), curve.at(np.full(len(times), horizon)))
    weights = np.divide(1.0, share, out=np.full(len(times), np.nan), where=share > 0)
    followed = bool(curve.at(np.full(1, horizon))[0] > 0)
    return np.where(labels == UNKNOWN, 0.0 if followed else np.nan, weights)


def horizon_weights(
    times: NDArray[np.float64], events: NDArray[np.float64], horizons: Sequence[float], curve: Staying
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return of each patient and horizon what is known (`EVENT`, `ALIVE`, `UNKNOWN`), and how much it counts, both of shape (n, horizons).

    Parameters
    ----------
    times, events : ndarray, shape (n,)
        Time, and 1 for an event or 0 for last seen.
    horizons : sequence of float
        Rising.
    curve : Staying
        Of those who stand for one another.

    Returns
    -------
    tuple of ndarray
        Weights are ``1 / G(T-)`` of an event by the horizon, ``1 / G(horizon)`` of who is alive then, 0 of the unknown (inverse probability of
        censoring; Graf et al., Stat Med 1999;18:2529). A horizon to which nobody is followed has 0 for all: of events alone it would learn too much.

    Examples
    --------
    >>> times, events = np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 1, 1])
    >>> labels, weights = horizon_weights(times, events, [3.0], staying_of(times, events))
    >>> labels[:, 0].tolist(), weights[:, 0].round(4).tolist()
    ([1, -1, 1, 0], [1.0, 0.0, 1.5, 1.5])
    """
    labels = np.stack([horizon_labels(times, events, horizon) for horizon in horizons], 1)
    ends = np.broadcast_to(np.asarray(horizons, np.float64), labels.shape)
    share = np.where(labels == EVENT, curve.at(times, before=True)[:, None], curve.at(ends))
    weights = np.divide(1.0, share, out=np.zeros(labels.shape), where=(share > 0) & (labels != UNKNOWN))
    followed = curve.at(np.asarray(horizons, np.float64)) > 0
    return labels, weights * followed


def risk_by(times: ArrayLike, events: ArrayLike, horizon: float) -> float:
    """Return the share who have the event by the horizon, by the Kaplan-Meier curve.

    Examples
    --------
    >>> round(risk_by([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 0, 1], 4), 6)
    0.555556
    """
    return 1 - kaplan_meier(life_table(times, events)).at(horizon)
