"""Life tables: who is at risk, has the event or leaves at each time. Tables of several sites add up; the curves of the sum are those of all patients.

On the patients' own times the curves are the exact estimators; on a grid of agreed times, which is what sites may release, an event or a leaving
counts at the end of its interval, events before leavings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared_models.core.errors import BadInput

Z95 = 1.959963984540054


@dataclass(frozen=True)
class LifeTable:
    """Counts by time.

    Parameters
    ----------
    times : ndarray of float64, shape (t,)
        Rising.
    at_risk : ndarray of float64, shape (t,)
        Patients whose time is not before ``times``.
    events : ndarray of float64, shape (causes, t)
        Events of each cause at ``times``.
    """

    times: NDArray[np.float64]
    at_risk: NDArray[np.float64]
    events: NDArray[np.float64]

    def __add__(self, other: LifeTable) -> LifeTable:
        """Return the table of both groups.

        Raises
        ------
        BadInput
            They were counted at different times.
        """
        if not np.array_equal(self.times, other.times) or self.events.shape != other.events.shape:
            raise BadInput("tables that are added are counted at the same times", value=(len(self.times), len(other.times)))
        return LifeTable(self.times, self.at_risk + other.at_risk, self.events + other.events)


def life_table(times: ArrayLike, causes: ArrayLike, *, grid: ArrayLike | None = None, kinds: int = 1) -> LifeTable:
    """Count patients.

    Parameters
    ----------
    times : sequence of float, length n
        Time to the event or to the day last seen.
    causes : sequence of int, length n
        0 for last seen, else the number of the event's cause from 1; 1 alone where there is one kind of event.
    grid : sequence of float, optional
        Rising times to count at, each standing for the interval that ends there; by default the patients' own. Those with a later time are at
        risk throughout.
    kinds : int
        Number of causes.

    Raises
    ------
    BadInput
        Times that are negative or not finite, causes that are not 0..kinds, a grid that does not rise.

    Examples
    --------
    >>> table = life_table([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 0, 1])
    >>> table.at_risk.tolist(), table.events[0].tolist()
    ([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    """
    t, c = np.asarray(times, np.float64).reshape(-1), np.asarray(causes, np.int64).reshape(-1)
    if len(t) != len(c) or not np.isfinite(t).all() or (t < 0).any() or ((c < 0) | (c > kinds)).any():
        raise BadInput(f"every patient has a finite time that is not negative and a cause of 0 to {kinds}")
    at = np.unique(t) if grid is None else np.asarray(grid, np.float64).reshape(-1)
    if len(at) and ((np.diff(at) <= 0).any() or not np.isfinite(at).all()):
        raise BadInput("times of a life table rise")
    place = np.searchsorted(at, t)  # an event inside an interval counts at its end
    leaving = np.bincount(place, minlength=len(at) + 1).astype(np.float64)
    at_risk = leaving[::-1].cumsum()[::-1][: len(at)]
    events = np.stack([np.bincount(place[c == kind], minlength=len(at) + 1)[: len(at)].astype(np.float64) for kind in range(1, kinds + 1)])
    return LifeTable(at, at_risk, events)


@dataclass(frozen=True)
class Curve:
    """A curve over time with its 95 % limits, all of shape (t,)."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    start: float = 1.0
    """The value before the first time: 1 of a survival, 0 of an incidence."""

    def at(self, time: float) -> float:
        """Return the value at a time: that of the last step before or at it.

        Examples
        --------
        >>> kaplan_meier(life_table([1, 2], [1, 0])).at(1.5)
        0.5
        """
        place = int(np.searchsorted(self.times, time, side="right")) - 1
        return float(self.values[place]) if place >= 0 else self.start


def kaplan_meier(table: LifeTable) -> Curve:
    """Return the survival curve from all causes together, with limits on the scale of log(-log S) by Greenwood's variance.

    Source: Kaplan & Meier, J Am Stat Assoc 1958;53:457; limits: Kalbfleisch & Prentice, The Statistical Analysis of Failure Time Data, 2002.

    Examples
    --------
    >>> curve = kaplan_meier(life_table([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 0, 1]))
    >>> [round(curve.at(t), 6) for t in (0, 1, 2, 4, 6)]
    [1.0, 0.833333, 0.666667, 0.444444, 0.0]
    """
    d, n = table.events.sum(0), table.at_risk
    share = np.divide(d, n, out=np.zeros_like(d), where=n > 0)
    survival = np.asarray(np.cumprod(1 - share), np.float64)
    variance = np.cumsum(np.divide(d, n * (n - d), out=np.zeros_like(d), where=n > d))  # where all die the curve is 0 and has no limits
    low, high = _limits(survival, variance)
    return Curve(table.times, survival, low, high)


def _limits(survival: NDArray[np.float64], variance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inside = (survival > 0) & (survival < 1) & np.isfinite(variance)
    known = np.where(inside, survival, 0.5)
    spread = Z95 * np.sqrt(np.where(inside, variance, 0.0)) / np.abs(np.log(known))
    low, high = known ** np.exp(spread), known ** np.exp(-spread)
    return np.where(inside, low, survival), np.where(inside, high, survival)


def aalen_johansen(table: LifeTable, cause: int = 1) -> Curve:
    """Return how many have had the event of `cause` by each time, where another cause ends the waiting; limits by the delta method.

    Source: Aalen & Johansen, Scand J Stat 1978;5:141; variance of Marubini & Valsecchi, Analysing Survival Data, 1995, equation 10.12; limits
    on the scale of log(-log).

    Examples
    --------
    >>> curve = aalen_johansen(life_table([1, 2, 3, 4], [1, 2, 1, 0], kinds=2), cause=1)
    >>> curve.values.round(4).tolist()
    [0.25, 0.25, 0.5, 0.5]
    """
    d, n = table.events.sum(0), table.at_risk
    own = table.events[cause - 1]
    before = np.concatenate([[1.0], np.cumprod(1 - np.divide(d, n, out=np.zeros_like(d), where=n > 0))[:-1]]) if len(d) else d
    step = np.divide(own, n, out=np.zeros_like(own), where=n > 0) * before
    incidence = np.cumsum(step)
    variance = np.zeros_like(incidence)
    for now in range(len(incidence)):
        past = slice(0, now + 1)
        rest = incidence[now] - incidence[past]
        more = n[past] > d[past]
        one = np.divide(d[past], n[past] * (n[past] - d[past]), out=np.zeros(now + 1), where=more)
        two = np.divide((n[past] - own[past]) * own[past], n[past] ** 3, out=np.zeros(now + 1), where=n[past] > 0)
        three = np.divide(own[past], n[past] ** 2, out=np.zeros(now + 1), where=n[past] > 0)
        variance[now] = (rest**2 * one).sum() + (before[past] ** 2 * two).sum() - 2 * (rest * before[past] * three).sum()
    inside = (incidence > 0) & (incidence < 1)
    known = np.where(inside, incidence, 0.5)
    spread = Z95 * np.sqrt(np.where(inside, np.maximum(variance, 0), 0.0)) / np.abs(known * np.log(known))
    low, high = known ** np.exp(spread), known ** np.exp(-spread)
    return Curve(table.times, incidence, np.where(inside, low, incidence), np.where(inside, high, incidence), start=0.0)


def suppressed(table: LifeTable, least: int) -> LifeTable:
    """Return the table as a site may release it: it ends before fewer than `least` patients are at risk.

    Intervals with 1 to ``least - 1`` leavings are not hidden one by one, because their neighbours would tell them: choose a grid coarse enough,
    or let tables leave through the secure sum.

    Examples
    --------
    >>> suppressed(life_table([1, 2, 3, 4], [1, 1, 1, 1]), 3).times.tolist()
    [1.0, 2.0]
    """
    kept = int((table.at_risk >= least).sum())
    return LifeTable(table.times[:kept], table.at_risk[:kept], table.events[:, :kept])
