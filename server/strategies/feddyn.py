"""Dynamic regularisation: local optima that agree with the global one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from server.strategies.blocks import by_piece
from server.strategies.fednova import STATISTICS
from server.strategies.known import WEIGHT, counted, nobody, told
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec
from shared_models.core.arrays import State

SUM = "sum/"


def feddyn(model: None, *, alpha: Annotated[float, Field(gt=0)] = 0.1) -> Strategy:
    """Average the sites and add what all sites have moved so far (Acar et al., ICLR 2021, algorithm 1).

    ``h -= alpha / m sum_i (w_i - w)`` over the sites that answered, of m sites ever seen, and ``w = mean_i(w_i) - h / alpha``. Every site
    has one vote and keeps its own ``lambda_i`` on its disk. Running statistics of normalisation layers and counters are averaged.

    Parameters
    ----------
    alpha : float
        Strength of the sites' pull towards the global model: weak, and each goes its way first; strong, and all creep.
    """
    del model

    def start(current: State) -> State:
        return nobody() | {SUM + key: np.zeros_like(value) for key, value in current.items() if value.dtype.kind == "f"}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        own, answered = counted(own, spool, "equal"), len(spool.replies)
        result, sites = spool.weighted_mean(current, [1.0] * answered), sum(key.startswith(WEIGHT) for key in own)
        for key, value in current.items():
            if value.dtype.kind == "f" and not key.endswith(STATISTICS):
                was, own[SUM + key] = own[SUM + key], np.empty(value.shape, value.dtype)
                for now, old, moved, old_moved in by_piece(result[key], value, own[SUM + key], was):
                    moved[:] = old_moved + answered * (now.astype(np.float64) - old)
                    now[:] = now + moved / sites
        return result, own

    return Strategy(aggregate, start, rule={"name": "feddyn", "alpha": alpha}, sends=told)


SPEC = StrategySpec(feddyn, fit="gradient", source="Acar et al., Federated learning based on dynamic regularization, ICLR 2021")
