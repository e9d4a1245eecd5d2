"""Normalisation layers that stay at home."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from server.strategies.fedavg import fedavg
from server.strategies.strategy import Strategy, StrategySpec


def fedbn(model: None, *, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Average as FedAvg; the normalisation layers are each site's own (Li et al., ICLR 2021, algorithm 1).

    They stay on the site's disk and are judged with it. The released model holds them as they were at the start: a hospital that did not
    train has none of its own. The networks here normalise by groups, so that it is their scales and shifts that stay.

    Parameters
    ----------
    weighting : str
        As in FedAvg.

    Examples
    --------
    >>> fedbn(None).rule
    {'name': 'personal', 'keep': ['normalisation']}
    """
    return replace(fedavg(model, weighting=weighting), rule={"name": "personal", "keep": ["normalisation"]})


SPEC = StrategySpec(fedbn, fit="gradient", source="Li et al., FedBN: Federated learning on non-IID features via local batch normalization, ICLR 2021")
