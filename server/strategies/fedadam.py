"""Adam at the server."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.adaptive import adaptive
from server.strategies.strategy import Strategy, StrategySpec


def fedadam(
    model: None,
    *,
    eta: Annotated[float, Field(gt=0)] = 0.01,
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    tau: Annotated[float, Field(gt=0)] = 1e-3,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Take the mean update as a gradient and step with Adam: ``v = b2 v + (1-b2) d^2`` (Reddi et al., ICLR 2021, algorithm 2).

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
    return adaptive(
        lambda v, d: beta_2 * v + np.float32(1 - beta_2) * d**2,
        eta=eta,
        beta_1=beta_1,
        tau=tau,
        weighting=weighting,
    )


SPEC = StrategySpec(fedadam, fit="gradient", source="Reddi et al., Adaptive federated optimization, ICLR 2021")
