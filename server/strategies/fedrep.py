"""A personal head, trained before the shared body."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.fedper import Parts
from server.strategies.strategy import Strategy, StrategySpec


def fedrep(
    model: None,
    *,
    personal: Parts = ("head",),
    head_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """As FedPer, but a site trains its own head on the received body, then the body under that head (Collins et al., ICML 2021, algorithm 1).

    Parameters
    ----------
    personal : tuple of str
        ``head`` (the last linear layer), ``normalisation``, or patterns of array names such as ``encoder.project.*``.
    head_share : float
        Share of a round's steps that train the personal layers.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> fedrep(None).rule
    {'name': 'fedrep', 'keep': ['head'], 'head_share': 0.5}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "fedrep", "keep": list(personal), "head_share": head_share})


SPEC = StrategySpec(fedrep, fit="gradient", source="Collins et al., Exploiting shared representations for personalized federated learning, ICML 2021")
