"""One-shot ensemble: each site trains alone to the end and sends once."""

from __future__ import annotations

from typing import Literal

import numpy as np

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, mean_of, site_weights
from shared_models.core.arrays import State
from shared_models.ensemble import Member, join

MEMBER, WEIGHT = "member/", "weight/"


def one_shot(model: None, *, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Keep every site's model; predict by the weighted mean of their probabilities (Guha et al., 2019, section 3.1).

    One round in which ``train.epochs`` (or ``steps``) is the whole training; what is released holds all members (`shared_models/ensemble`).
    The mean of the weights goes along as the state of the round: with nothing but it, this is one round of FedAvg.

    Parameters
    ----------
    weighting : str
        As in FedAvg: of the members' probabilities.
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        kept: State = {}
        for reply, weight, state in zip(spool.replies, site_weights(spool, weighting), spool.states(), strict=True):
            kept[WEIGHT + reply.site] = np.array(float(weight))
            kept |= {f"{MEMBER}{reply.site}/{key}": value for key, value in state.items()}
        del own  # members of an earlier round have been replaced
        return mean_of(current, spool, weighting), kept

    def release(state: State, own: State) -> State:
        sites = sorted(key.removeprefix(WEIGHT) for key in own if key.startswith(WEIGHT))
        if not sites:
            return state
        # No name in the weights: members are numbered in the order of their sites' names.
        return join([Member(float(own[WEIGHT + site]), {key: own[f"{MEMBER}{site}/{key}"] for key in state}) for site in sites])

    return Strategy(aggregate, release=release)


SPEC = StrategySpec(one_shot, fit="gradient", source="Guha et al., One-shot federated learning, arXiv:1902.11175")
