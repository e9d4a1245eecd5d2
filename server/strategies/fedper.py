"""A personal head on a shared body."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec

Parts = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1, max_length=100)]
"""Names of what is personal."""


def fedper(
    model: None,
    *,
    personal: Parts = ("head",),
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Average as FedAvg all but the personal layers, which are each site's own (Arivazhagan et al., 2019, algorithms 1 and 2).

    They stay on the site's disk and are judged with it; the released model holds them as they were at the start.

    Parameters
    ----------
    personal : tuple of str
        ``head`` (the last linear layer), ``normalisation``, or patterns of array names such as ``encoder.project.*``.
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> fedper(None).rule
    {'name': 'personal', 'keep': ['head']}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "personal", "keep": list(personal)})


SPEC = StrategySpec(fedper, fit="gradient", source="Arivazhagan et al., Federated learning with personalization layers, arXiv:1912.00818")
