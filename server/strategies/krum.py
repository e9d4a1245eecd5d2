"""The site, or the few sites, in the densest company."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from server.strategies.distances import products, squared_distances
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState


def krum(model: None, *, hostile: Annotated[int, Field(ge=0)] = 1, chosen: Annotated[int, Field(ge=1)] = 1) -> Strategy:
    """Take the mean of the `chosen` sites whose nearest neighbours are nearest (Blanchard et al., NeurIPS 2017, section 4).

    A site's score is the sum of its squared distances to its ``n - hostile - 2`` nearest neighbours; the lowest scores are taken, among
    equals the first by name.

    Parameters
    ----------
    hostile : int
        Sites that may send anything. A round then needs ``2 hostile + 3`` replies.
    chosen : int
        1 is Krum, more is Multi-Krum. At most the sites that are not hostile are taken.

    Raises
    ------
    BadState
        From `aggregate`: fewer replies than the method needs.
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        sites = len(spool.replies)
        if sites < least({"hostile": hostile}):
            raise BadState("krum needs 2 hostile + 3 replies", value={"replies": sites, "hostile": hostile}, remedy="raise federation.quorum")
        score = scores(squared_distances(products(current, spool)), hostile)
        taken = np.argsort(score, kind="stable")[: min(chosen, sites - hostile)]
        return spool.weighted_mean(current, [float(number in taken) for number in range(sites)]), own

    return Strategy(aggregate)


def scores(apart: np.ndarray, hostile: int) -> np.ndarray:
    """Return each site's sum of squared distances to its nearest neighbours, shape (sites,).

    Examples
    --------
    >>> places = np.array([0.0, 1.0, 2.0, 4.0, 9.0])
    >>> scores((places[:, None] - places) ** 2, 1)  # two neighbours each: for the first 1 and 4
    array([ 5.,  2.,  5., 13., 74.])
    """
    neighbours = len(apart) - hostile - 2
    return np.sort(np.where(np.eye(len(apart), dtype=bool), np.inf, apart), axis=1)[:, :neighbours].sum(axis=1)


def least(knobs: dict[str, int]) -> int:
    """Return the replies that a round needs."""
    return 2 * knobs.get("hostile", 1) + 3


SPEC = StrategySpec(
    krum,
    fit="gradient",
    source="Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS 2017",
    least=least,
)
