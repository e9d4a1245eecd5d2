"""Federated averaging with a contrast of representations at the sites."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec


def moon(
    model: None,
    *,
    mu: Annotated[float, Field(ge=0, le=20)] = 1.0,
    tau: Annotated[float, Field(ge=0.05, le=10)] = 0.5,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Average as FedAvg; every site's loss draws its representations towards the global model's (Li, He & Song, CVPR 2021, algorithm 1).

    And away from those of the model that the site trained last, which it keeps on its own disk. Each step costs two more forward passes.
    For networks that have a representation (`ModelSpec.representation`).

    Parameters
    ----------
    mu : float
        Weight of the contrast beside the loss; 0 is FedAvg.
    tau : float
        Temperature: small, and a slight difference of the angles counts.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> moon(None, mu=5.0).rule
    {'name': 'moon', 'mu': 5.0, 'tau': 0.5}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "moon", "mu": mu, "tau": tau})


SPEC = StrategySpec(moon, fit="gradient", source="Li, He & Song, Model-contrastive federated learning, CVPR 2021", representation=True)
