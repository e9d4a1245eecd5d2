"""Weights of events against non-events: few deaths are heard, and the stated risks stay what they are.

A loss with the weight ``w`` on events is least at the odds times ``w``: a network trained by it states risks that are too high, and ``ln w`` is to be
taken off its logits afterwards (prior correction: King & Zeng, Political Analysis 2001;9:137, equation 7). Here the loss reads the network's logits
plus ``ln w``: trained is the same shifted network, and what it states needs no correction, at no site and in no bundle. So sites may differ in ``w``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadChoice
from shared_models.survival.censoring import Staying
from shared_models.survival.horizon import ALIVE, EVENT, horizon_weights
from shared_models.survival.life_table import LifeTable, kaplan_meier
from shared_models.survival.person_intervals import person_intervals

OVERLAP = 0.99
"""Of the effective number ``(1 - b^n) / (1 - b)`` (Cui et al., CVPR 2019, equation 2), as of classes."""


def factors_of(counts: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    """Return the factors on non-events and on events, of the shape of `counts`: their mean over what is counted is 1.

    Parameters
    ----------
    counts : ndarray, shape (2,) or (2, horizons)
        Non-events and events.
    how : str
        ``none``, ``balanced`` or ``effective``. Where one of the two was never counted, both are 1: there is nothing to weigh.

    Raises
    ------
    BadChoice
        Another word.

    Examples
    --------
    >>> factors_of(np.array([90.0, 10.0]), "balanced").round(4).tolist(), factors_of(np.array([90.0, 0.0]), "balanced").tolist()
    ([0.5556, 5.0], [1.0, 1.0])
    """
    if how not in ("none", "balanced", "effective"):
        remedy = "train.class_weights = 'none', 'balanced' or 'effective'"
        raise BadChoice("weights of events are balanced, effective or none", value=how, remedy=remedy)
    known = (counts > 0).all(0)
    safe = np.where(known, counts, 1.0)
    sizes = {"none": np.ones_like(safe), "balanced": safe, "effective": (1 - OVERLAP**safe) / (1 - OVERLAP)}[how]
    mean = (safe / sizes).sum(0) / safe.sum(0)
    return np.where(known, 1 / sizes / mean, 1.0)


def interval_counts(times: NDArray[np.float64], events: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.float64]:
    """Return how many intervals patients survived whole, and how many events lie in the intervals, shape (2,).

    Examples
    --------
    >>> interval_counts(np.array([1.5, 1.5, 9.0]), np.array([1.0, 0.0, 1.0]), [1.0, 2.0]).tolist()
    [4.0, 1.0]
    """
    died = person_intervals(times, events, edges)[2]
    return np.array([len(died) - died.sum(), died.sum()])


def interval_counts_in(table: LifeTable, edges: Sequence[float]) -> NDArray[np.float64]:
    """Return the same of a federation's life table, shape (2,): events and those at risk are taken to change evenly within its intervals.

    Examples
    --------
    >>> table = LifeTable(np.array([1.0, 2.0]), np.array([3.0, 2.0]), np.array([[0.0, 1.0]]))
    >>> interval_counts_in(table, [1.0, 2.0]).tolist()
    [3.0, 1.0]
    """
    ends, died = np.concatenate([[0.0], table.times]), table.events[0] if len(table.events) else np.zeros(len(table.times))
    left_over = table.at_risk[-1:] - table.events.sum(0)[-1:]  # who left in the last interval is not told
    followed = np.interp(edges, ends, np.concatenate([table.at_risk, left_over]), right=0.0)
    return np.array([followed.sum(), float(np.interp(edges[-1], ends, np.concatenate([[0.0], np.cumsum(died)])))])


def horizon_counts(times: NDArray[np.float64], events: NDArray[np.float64], horizons: Sequence[float], curve: Staying) -> NDArray[np.float64]:
    """Return how many are alive at each horizon and how many have had the event, each counted with its weight for those who left, (2, horizons).

    Examples
    --------
    >>> times, events = np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 0, 0])
    >>> horizon_counts(times, events, [2.5], Staying(times, np.ones(4))).tolist()
    [[2.0], [2.0]]
    """
    labels, weights = horizon_weights(times, events, horizons, curve)
    return np.stack([(weights * (labels == kind)).sum(0) for kind in (ALIVE, EVENT)])


def horizon_counts_in(table: LifeTable, horizons: Sequence[float]) -> NDArray[np.float64]:
    """Return the same of a federation's life table by its Kaplan-Meier curve, shape (2, horizons).

    Examples
    --------
    >>> table = LifeTable(np.array([1.0, 2.0]), np.array([4.0, 3.0]), np.array([[1.0, 0.0]]))
    >>> horizon_counts_in(table, [1.0]).tolist()
    [[3.0], [1.0]]
    """
    curve, count = kaplan_meier(table), float(table.at_risk[0]) if len(table.at_risk) else 0.0
    alive = np.array([curve.at(horizon) for horizon in horizons])
    return np.stack([count * alive, count * (1 - alive)])
