"""What Adagrad, Adam and Yogi at the server have in common: two moments of the mean update (Reddi et al., ICLR 2021, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from server.strategies.blocks import by_piece
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, mean_of
from shared_models.core.arrays import State

Second = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``second(v, d) -> v``: the next second moment from the last one and the mean update."""


def adaptive(second: Second, *, eta: float, beta_1: float, tau: float, weighting: str) -> Strategy:
    """Step along the first moment over the root of the second one.

    ``d = mean_i(w_i) - w``, ``m = b1 m + (1-b1) d``, ``v = second(v, d)``, ``w += eta m / (sqrt(v) + tau)``. As published there is no bias
    correction and v starts at tau^2. Counters and other whole numbers are averaged.

    Parameters
    ----------
    second : callable
        What makes the three methods differ.
    eta, beta_1, tau : float
        Server learning rate, decay of the first moment, degree of adaptivity.
    weighting : str
        As in FedAvg.
    """

    def start(current: State) -> State:
        first = {f"m/{key}": np.zeros(value.shape, np.float32) for key, value in current.items() if value.dtype.kind == "f"}
        return first | {f"v/{key}": np.full(value.shape, tau**2, np.float32) for key, value in current.items() if value.dtype.kind == "f"}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        result, own = mean_of(current, spool, weighting), dict(own)
        for key, value in current.items():
            if value.dtype.kind != "f":
                continue
            was = own[f"m/{key}"], own[f"v/{key}"]
            own[f"m/{key}"], own[f"v/{key}"] = np.empty(value.shape, np.float32), np.empty(value.shape, np.float32)
            for now, old, m, v, old_m, old_v in by_piece(result[key], value, own[f"m/{key}"], own[f"v/{key}"], *was):
                delta = (now - old).astype(np.float32)
                m[:] = beta_1 * old_m + np.float32(1 - beta_1) * delta
                v[:] = second(old_v, delta)
                now[:] = old + eta * m / (np.sqrt(v) + tau)
        return result, own

    return Strategy(aggregate, start)
