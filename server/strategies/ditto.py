"""A personal model beside the global one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec


def ditto(model: None, *, pull: Annotated[float, Field(gt=0)] = 0.1, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Average as FedAvg; every site trains a second model of its own, ``v -= lr (g(v) + pull (v - w))`` (Li et al., ICML 2021, algorithm 1).

    The second model takes as many steps again, stays on the site's disk and is what the site is judged with; the released model is FedAvg's.

    Parameters
    ----------
    pull : float
        Strength towards the global model (the paper's lambda): weak, and each site is alone; strong, and all have the global model.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> ditto(None).rule
    {'name': 'ditto', 'pull': 0.1}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "ditto", "pull": pull})


SPEC = StrategySpec(ditto, fit="gradient", source="Li et al., Ditto: Fair and robust federated learning through personalization, ICML 2021")
