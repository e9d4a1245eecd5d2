"""Snapshot ensemble: one run, several members, each the mean model at the end of a cycle of the learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, mean_of
from shared_models.core.arrays import State
from shared_models.ensemble import Member, join
from shared_models.schedules import CYCLE_ROUNDS

ROUND, MEMBER = "snapshot/round", "member/"


def snapshot(
    model: None,
    *,
    every: Annotated[int, Field(ge=1, le=10_000)] = CYCLE_ROUNDS,
    members: Annotated[int, Field(ge=2, le=100)] = 5,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Average as FedAvg, keep the mean after every `every` rounds, and release the last `members` of these as one model that votes.

    With ``train.schedule = { name = "cyclic", every = ... }`` of the same length each cycle starts at the full learning rate, leaves the optimum
    that the last one found, and ends in another (Huang et al., 2017, section 3). Sites send what FedAvg sends: members are means, no site's own
    model. Rounds after the last whole cycle are in no member; before two cycles have ended the mean itself is released.

    Parameters
    ----------
    every : int
        Rounds in a cycle.
    members : int
        Snapshots that vote, the latest ones, all of the same weight.
    weighting : str
        As in FedAvg.
    """
    del model

    def start(current: State) -> State:
        del current
        return {ROUND: np.zeros(1, np.int64)}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        result, number = mean_of(current, spool, weighting), int(own[ROUND][0]) + 1
        kept = {key: value for key, value in own.items() if key != ROUND}
        if number % every == 0:
            oldest = number - members * every
            kept = {key: value for key, value in kept.items() if int(key.split("/")[1]) > oldest}
            kept |= {f"{MEMBER}{number}/{key}": value.copy() for key, value in result.items()}
        return result, {ROUND: np.array([number]), **kept}

    def release(state: State, own: State) -> State:
        ends = sorted({int(key.split("/")[1]) for key in own if key.startswith(MEMBER)})
        if len(ends) < 2:
            return state
        return join([Member(1.0, {key: own[f"{MEMBER}{end}/{key}"] for key in state}) for end in ends])

    return Strategy(aggregate, start, release=release)


SPEC = StrategySpec(snapshot, fit="gradient", source="Huang et al., Snapshot ensembles: train 1, get M for free, ICLR 2017")
