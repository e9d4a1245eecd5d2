"""Strategies that look at one parameter of all sites at a time: the median and the trimmed mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.core.arrays import State


def columnwise(centre: Callable[[np.ndarray], np.ndarray]) -> Strategy:
    """Build a strategy from ``centre(values of shape (sites, n)) -> (n,)``; whole numbers are rounded to the nearest."""

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        result = {key: np.empty(value.size, value.dtype) for key, value in current.items()}
        for key, part, values in spool.columns(current):
            found = centre(values)
            result[key][part] = np.rint(found) if result[key].dtype.kind in "iub" else found
        return {key: result[key].reshape(value.shape) for key, value in current.items()}, own

    return Strategy(aggregate)
