"""Buffered asynchronous rounds: nobody waits for the slowest site, and its work is not lost."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.replies import Spool
from server.strategies.strategy import Buffer, Strategy, StrategySpec, site_weights
from shared_models.core.arrays import State


def fedbuff(
    model: None,
    *,
    buffer: Annotated[int, Field(ge=1, le=10_000)] | None = None,
    most_stale: Annotated[int, Field(ge=0, le=1000)] = 10,
    eta: Annotated[float, Field(gt=0)] = 1.0,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Close a round on its first updates; take the others in a later one (Nguyen et al., AISTATS 2022, algorithm 1).

    ``w += eta sum_i p_i (w_i - b_i) / sqrt(1 + t_i)``: `b_i` is the state that site i started from, `t_i` the rounds that have closed since.
    An answered site is asked again when the round closes, one that is still at work is left to it. Counters are averaged as they are.

    Parameters
    ----------
    buffer : int, optional
        Updates that close a round, at least the quorum; the quorum when not given.
    most_stale : int
        A site that has been at work for more rounds than this is asked anew, and what it was working on no longer counts.
    eta : float
        Server learning rate.
    weighting : str
        As in FedAvg, among the updates of one round.

    Examples
    --------
    >>> fedbuff(None, buffer=3).buffer
    Buffer(size=3, most_stale=10)
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        weights = np.array(site_weights(spool, weighting))
        weights /= weights.sum()
        stale = np.array([reply.staleness for reply in spool.replies])
        damped = weights / np.sqrt(1.0 + stale)
        share = eta * float(damped.sum())
        result = spool.weighted_mean(current, list(damped))
        counters = {key for key, value in current.items() if value.dtype.kind != "f"}
        plain = spool.weighted_mean(current, list(weights)) if counters and stale.any() else result
        for key, value in current.items():
            if key in counters:
                result[key] = plain[key]
            elif share != 1:
                result[key] = (value + share * (result[key].astype(np.float64) - value)).astype(value.dtype)
        return result, own

    return Strategy(aggregate, buffer=Buffer(buffer, most_stale))


SPEC = StrategySpec(fedbuff, fit="gradient", source="Nguyen et al., Federated learning with buffered asynchronous aggregation, AISTATS 2022")
