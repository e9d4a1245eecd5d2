"""What a strategy knows of the sites that have ever answered: their weights, and the last of their rounds that was counted.

It is part of the strategy's own state and so of every checkpoint. The sites are told their rounds: a site whose update was lost goes on from
the state of the round that was counted, so that both ends always mean the same control variate.

    rounds            how many rounds there have been
    weight/<site>     its weight, as in the first round in which it was counted
    counted/<site>    the last round in which it was counted
"""

from __future__ import annotations

import numpy as np

from server.strategies.replies import Spool
from server.strategies.strategy import site_weights
from shared_models.core.arrays import State

WEIGHT, COUNTED = "weight/", "counted/"


def nobody() -> State:
    """Return what is known before round 1."""
    return {"rounds": np.array(0)}


def counted(own: State, spool: Spool, weighting: str) -> State:
    """Return `own` after a round with the replies of `spool`; a site keeps the weight that it had when it was first seen."""
    number = int(own["rounds"]) + 1
    own = {**own, "rounds": np.array(number)}
    for reply, weight in zip(spool.replies, site_weights(spool, weighting), strict=True):
        own.setdefault(WEIGHT + reply.site, np.array(float(weight)))
        own[COUNTED + reply.site] = np.array(number)
    return own


def total_weight(own: State) -> float:
    """Return the weight of all sites that have ever been counted."""
    return float(sum(float(own[key]) for key in sorted(own) if key.startswith(WEIGHT)))


def told(own: State) -> State:
    """Return what the sites are told: their rounds."""
    return {key: value for key, value in own.items() if key.startswith(COUNTED)}
