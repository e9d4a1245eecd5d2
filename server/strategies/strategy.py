"""What a strategy is: plain functions over states, tied together in one frozen record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from server.strategies.replies import Spool
from shared_models.core.arrays import State


@dataclass(frozen=True)
class Strategy:
    """One configured strategy.

    Parameters
    ----------
    aggregate : callable
        ``aggregate(current, own, spool) -> (next, own)``: the global state, the strategy's own state (momentum, control variates) and
        the round's valid replies give the next global state and own state. A pure function: the same replies in any order give the same
        bits, and nothing is kept between calls.
    start : callable
        ``start(current) -> own``: the strategy's own state before round 1.
    rule : dict
        The half at the sites: a name in the sites' RULES and its numbers.
    """

    aggregate: Callable[[State, State, Spool], tuple[State, State]]
    start: Callable[[State], State] = lambda current: {}
    rule: dict[str, Any] = field(default_factory=lambda: {"name": "plain"})


@dataclass(frozen=True)
class StrategySpec:
    """One line of STRATEGIES: ``build(model, *, knobs) -> Strategy``; `fit` says which models it serves; `source` is its paper.

    `sums` says that all it needs of a round is the sum of the sites' updates, weighed with their patients or, with the knob ``weighting =
    "equal"``, alike: then it works under the secure sum, where it is given the mean (or the total) as the reply of one site.
    """

    build: Callable[..., Strategy]
    fit: str
    source: str
    sums: bool = False


def case_weights(spool: Spool) -> list[float]:
    """Return the number of patients behind each reply, in order."""
    return [float(reply.num_cases) for reply in spool.replies]
