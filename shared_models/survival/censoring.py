"""How many are still followed: Kaplan-Meier of leaving, from patients or from a federation's life table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadState
from shared_models.survival.life_table import LifeTable


@dataclass(frozen=True)
class Staying:
    """P(not yet left) over time, 1 at 0.

    Parameters
    ----------
    times : ndarray, shape (t,)
        Rising, above 0.
    shares : ndarray, shape (t,)
        Of those who would be followed still, right after each time.
    grid : bool
        Whether the times are ends of intervals, within which leaving has one rate; else patients left at the very times, and the curve has steps.
    """

    times: NDArray[np.float64]
    shares: NDArray[np.float64]
    grid: bool = False

    def at(self, when: NDArray[np.float64], *, before: bool = False) -> NDArray[np.float64]:
        """Return the share at each time, or right `before` it.

        Examples
        --------
        >>> staying_of(np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1])).at(np.array([1.5, 2.0, 2.0])).tolist()
        [1.0, 0.5, 0.5]
        """
        if self.grid:  # no jump: before and at are the same
            ends, shares = np.concatenate([[0.0], self.times]), np.concatenate([[1.0], self.shares])
            with np.errstate(divide="ignore"):
                logs = np.maximum(np.log(shares), -700.0)
            found = np.exp(np.interp(when, ends, logs))
            return np.where(found > 1e-300, found, 0.0)
        return np.concatenate([[1.0], self.shares])[np.searchsorted(self.times, when, side="left" if before else "right")]


def staying_of(times: NDArray[np.float64], events: NDArray[np.float64]) -> Staying:
    """Return the curve of patients, shape (n,) each: Kaplan-Meier in which leaving (event 0) is what happens.

    Of equal times events come before leavings: those who had the event were not at risk of leaving then.
    """
    own, place = np.unique(times, return_inverse=True)
    left, died = (np.bincount(place[events == kind], minlength=len(own)).astype(float) for kind in (0, 1))
    at_risk = (left + died)[::-1].cumsum()[::-1] - died
    shares = np.cumprod(1 - np.divide(left, at_risk, out=np.zeros_like(left), where=at_risk > 0))
    return Staying(own, np.asarray(shares, np.float64))


def staying_in(table: LifeTable) -> Staying:
    """Return the curve of a federation's summed life table, up to the end of its last interval but one: who left in the last is not told.

    Within an interval half of the events are taken to come before a leaving (Cutler & Ederer, J Chronic Dis 1958;8:699).

    Examples
    --------
    >>> table = LifeTable(np.array([1.0, 2.0, 3.0]), np.array([10.0, 6.0, 4.0]), np.array([[2.0, 0.0, 1.0]]))
    >>> curve = staying_in(table)
    >>> curve.times.tolist(), curve.shares.round(4).tolist()  # two of nine, then two of six left
    ([1.0, 2.0], [0.7778, 0.5185])
    """
    died = table.events.sum(0)[:-1]
    left = table.at_risk[:-1] - died - table.at_risk[1:]
    exposed = table.at_risk[:-1] - died / 2
    share = np.divide(left, exposed, out=np.zeros_like(left), where=exposed > 0)
    return Staying(table.times[:-1], np.cumprod(1 - np.clip(share, 0, 1)), grid=True)


def check_reach(curve: Staying, horizons: Sequence[float]) -> None:
    """Refuse a federation's curve that ends before the last horizon.

    Raises
    ------
    BadState
        Naming how far it goes.
    """
    last = float(curve.times[-1]) if len(curve.times) else 0.0
    if curve.grid and last < max(horizons) - 1e-9:
        remedy = (
            "name a time of [[statistics]] life_table past the last horizon, more patients, or leave the statistic out: each site then weighs alone"
        )
        raise BadState("the federation's life table tells who left up to the last horizon", value=f"{last:g} of {max(horizons):g}", remedy=remedy)
