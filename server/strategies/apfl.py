"""A personal model mixed with the global one, in a share that each site learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec


def apfl(
    model: None,
    *,
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5,
    adapt: Annotated[float, Field(ge=0, le=10)] = 0.1,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Average as FedAvg; every site uses ``alpha v + (1 - alpha) w`` with a model v of its own (Deng, Kamani & Mahdavi, 2020, algorithm 1).

    v takes a step beside each step of w, at the price of a second gradient. v and alpha stay on the site's disk, the mixture is what the site
    is judged with; the released model is FedAvg's.

    Parameters
    ----------
    alpha : float
        Share of the site's own model in its first round.
    adapt : float
        Step size with which a site learns its share, once a round; 0 leaves it as it is.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> apfl(None).rule
    {'name': 'apfl', 'alpha': 0.5, 'adapt': 0.1}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "apfl", "alpha": alpha, "adapt": adapt})


SPEC = StrategySpec(apfl, fit="gradient", source="Deng, Kamani & Mahdavi, Adaptive personalized federated learning, arXiv:2003.13461")
