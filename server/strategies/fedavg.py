"""Federated averaging."""

from __future__ import annotations

from typing import Literal

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, mean_of
from shared_models.core.arrays import State


def fedavg(model: None, *, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Average the sites' weights: ``w = sum_i n_i w_i / sum_i n_i`` (McMahan et al., AISTATS 2017, algorithm 1).

    Parameters
    ----------
    weighting : str
        ``cases`` weighs a site by its training patients, ``equal`` gives every site one vote.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> spool = Spool(pathlib.Path(tempfile.mkdtemp()) / "r1")
    >>> spool.add("a", {"w": np.array([0.0])}, num_cases=1, steps=1)
    >>> spool.add("b", {"w": np.array([4.0])}, num_cases=3, steps=1)
    >>> fedavg(None).aggregate({"w": np.array([9.0])}, {}, spool)[0]
    {'w': array([3.])}
    >>> spool.clear()
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        return mean_of(current, spool, weighting), own

    return Strategy(aggregate)


SPEC = StrategySpec(
    fedavg,
    fit="gradient",
    source="McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017",
)
