"""Federated averaging with momentum at the server."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.blocks import by_piece
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, mean_of
from shared_models.core.arrays import State


def fedavgm(
    model: None,
    *,
    eta: Annotated[float, Field(gt=0)] = 1.0,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Move along a running sum of mean updates: ``v = momentum v + d``, ``w += eta v`` with ``d = mean_i(w_i) - w`` (Hsu et al., 2019, section 4.2).

    Parameters
    ----------
    eta : float
        Server learning rate; with ``momentum = 0`` and ``eta = 1`` it is FedAvg.
    momentum : float
        What is kept of the last step. In the long run a step is ``eta / (1 - momentum)`` mean updates.
    weighting : str
        As in FedAvg.
    """
    del model

    def start(current: State) -> State:
        return {f"v/{key}": np.zeros(value.shape, np.float32) for key, value in current.items() if value.dtype.kind == "f"}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        result, own = mean_of(current, spool, weighting), dict(own)
        for key, value in current.items():
            if value.dtype.kind != "f":
                continue
            was, own[f"v/{key}"] = own[f"v/{key}"], np.empty(value.shape, np.float32)
            for now, old, v, old_v in by_piece(result[key], value, own[f"v/{key}"], was):
                v[:] = momentum * old_v + (now - old).astype(np.float32)
                now[:] = old + eta * v
        return result, own

    return Strategy(aggregate, start)


SPEC = StrategySpec(
    fedavgm,
    fit="gradient",
    source="Hsu et al., Measuring the effects of non-identical data distribution for federated visual classification, arXiv:1909.06335",
)
