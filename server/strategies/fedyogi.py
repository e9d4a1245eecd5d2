"""Yogi at the server."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.adaptive import adaptive
from server.strategies.strategy import Strategy, StrategySpec


def fedyogi(
    model: None,
    *,
    eta: Annotated[float, Field(gt=0)] = 0.01,
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    tau: Annotated[float, Field(gt=0)] = 1e-3,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Take the mean update as a gradient and step with Yogi: ``v -= (1-b2) d^2 sign(v - d^2)`` (Reddi et al., ICLR 2021, algorithm 2).

    Where Adam forgets a large second moment at once, Yogi lets it shrink by no more than the last squared update.

    Parameters
    ----------
    eta, beta_1, beta_2, tau, weighting
        As in FedAdam.
    """
    del model
    return adaptive(
        lambda v, d: v - np.float32(1 - beta_2) * d**2 * np.sign(v - d**2),
        eta=eta,
        beta_1=beta_1,
        tau=tau,
        weighting=weighting,
    )


SPEC = StrategySpec(fedyogi, fit="gradient", source="Reddi et al., Adaptive federated optimization, ICLR 2021")
