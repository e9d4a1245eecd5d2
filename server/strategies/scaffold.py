"""Control variates: local steps that do not drift away from the others'."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.blocks import by_piece
from server.strategies.known import WEIGHT, counted, nobody, told, total_weight
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec
from shared_models.core.arrays import State

SUM, VARIATE = "sum/", "c/"


def scaffold(model: None, *, eta: Annotated[float, Field(gt=0)] = 1.0, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Average the sites' changes and keep the mean drift of all sites (Karimireddy et al., ICML 2020, algorithm 1, option II).

    The server sends the mean drift ``s``; a site keeps its own ``s_i`` on its disk and steps by ``s_i - s`` beside its gradient. Drifts are
    in weights a step, learning rate included. What a site's drift has become follows from its update, ``s_i+ = s_i - s + (w - w_i) / K_i``,
    so that no second array has to leave a site: the server adds up these changes alone.

    Made for sites that train by plain SGD; with another optimiser the drift of its steps is taken out in the same way.

    Parameters
    ----------
    eta : float
        Server learning rate.
    weighting : str
        As in FedAvg; a site keeps the weight that it had in its first round.
    """
    del model

    def start(current: State) -> State:
        return nobody() | {SUM + key: np.zeros_like(value) for key, value in current.items() if value.dtype.kind == "f"}

    def mean_drift(own: State) -> State:
        total = total_weight(own)
        sums = {key: value for key, value in own.items() if key.startswith(SUM)} if total else {}
        return {VARIATE + key.removeprefix(SUM): (value / total).astype(value.dtype) for key, value in sums.items()}

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        known, own = total_weight(own), counted(own, spool, weighting)
        weights = np.array([float(own[WEIGHT + reply.site]) for reply in spool.replies])
        a_step = weights / np.array([max(1, reply.steps) * spool.factor for reply in spool.replies])
        result, steady = spool.weighted_means(current, [weights, a_step])
        for key, value in current.items():
            if value.dtype.kind != "f":
                continue
            was, own[SUM + key] = own[SUM + key], steady[key]  # the memory is used again
            for now, old, drifted, old_drifted in by_piece(result[key], value, steady[key], was):
                drift = (old_drifted / known).astype(value.dtype) if known else 0.0  # as it was sent
                drifted[:] = old_drifted + a_step.sum() * (old.astype(np.float64) - drifted) - weights.sum() * drift
                if eta != 1:
                    now[:] = old + eta * (now - old)
        return result, own

    return Strategy(aggregate, start, rule={"name": "scaffold"}, sends=lambda own: mean_drift(own) | told(own))


SPEC = StrategySpec(
    scaffold, fit="gradient", source="Karimireddy et al., SCAFFOLD: Stochastic controlled averaging for federated learning, ICML 2020"
)
