"""Federated averaging with a proximal term at the sites."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec


def fedprox(model: None, *, mu: Annotated[float, Field(ge=0)] = 0.01, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Average as FedAvg; every site adds ``mu (w - w_global)`` to its gradient (Li et al., MLSys 2020, equation 2).

    Parameters
    ----------
    mu : float
        Strength of the pull towards the global model; 0 is FedAvg.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> fedprox(None, mu=0.1).rule
    {'name': 'fedprox', 'mu': 0.1}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "fedprox", "mu": mu})


SPEC = StrategySpec(fedprox, fit="gradient", source="Li et al., Federated optimization in heterogeneous networks, MLSys 2020")
