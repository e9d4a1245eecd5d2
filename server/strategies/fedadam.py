"""Adam at the server."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, case_weights
from shared_models.core.arrays import State


def fedadam(
    model: None,
    *,
    eta: Annotated[float, Field(gt=0)] = 0.01,
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    tau: Annotated[float, Field(gt=0)] = 1e-3,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Take the mean update as a gradient and step with Adam (Reddi et al., ICLR 2021, algorithm 2).

    ``d = mean_i(w_i) - w``, ``m = b1 m + (1-b1) d``, ``v = b2 v + (1-b2) d^2``, ``w += eta m / (sqrt(v) + tau)``. As published there is
    no bias correction and v starts at tau^2.

    Parameters
    ----------
    eta : float
        Server learning rate.
    beta_1, beta_2 : float
        Decay of the first and second moment.
    tau : float
        Degree of adaptivity.
    weighting : str
        As in FedAvg.
    """
    del model

    def start(current: State) -> State:
        first = {f"m/{key}": np.zeros(value.shape, np.float32) for key, value in current.items() if value.dtype.kind == "f"}
        second = {f"v/{key}": np.full(value.shape, tau**2, np.float32) for key, value in current.items() if value.dtype.kind == "f"}
        return first | second

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        weights = case_weights(spool) if weighting == "cases" else [1.0] * len(spool.replies)
        result = spool.weighted_mean(current, weights)
        own = dict(own)
        for key, value in current.items():
            if value.dtype.kind != "f":
                continue
            delta = (result[key] - value).astype(np.float32)
            own[f"m/{key}"] = beta_1 * own[f"m/{key}"] + np.float32(1 - beta_1) * delta
            own[f"v/{key}"] = beta_2 * own[f"v/{key}"] + np.float32(1 - beta_2) * delta**2
            result[key] = (value + eta * own[f"m/{key}"] / (np.sqrt(own[f"v/{key}"]) + tau)).astype(value.dtype)
        return result, own

    return Strategy(aggregate, start)


SPEC = StrategySpec(fedadam, fit="gradient", source="Reddi et al., Adaptive federated optimization, ICLR 2021", sums=True)
