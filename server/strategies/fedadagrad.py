"""Adagrad at the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from server.strategies.adaptive import adaptive
from server.strategies.strategy import Strategy, StrategySpec


def fedadagrad(
    model: None,
    *,
    eta: Annotated[float, Field(gt=0)] = 0.1,
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    tau: Annotated[float, Field(gt=0)] = 1e-3,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Take the mean update as a gradient and step with Adagrad: ``v += d^2`` (Reddi et al., ICLR 2021, algorithm 2).

    Parameters
    ----------
    eta : float
        Server learning rate.
    beta_1 : float
        Decay of the first moment; 0, as in the paper's experiments, steps along the update itself.
    tau : float
        Degree of adaptivity.
    weighting : str
        As in FedAvg.
    """
    del model
    return adaptive(lambda v, d: v + d**2, eta=eta, beta_1=beta_1, tau=tau, weighting=weighting)


SPEC = StrategySpec(fedadagrad, fit="gradient", source="Reddi et al., Adaptive federated optimization, ICLR 2021")
