"""Cyclic weight transfer: the model travels from site to site."""

from __future__ import annotations

from typing import Literal

from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import read_state


def cyclic(model: None, *, order: Literal["shuffled", "fixed"] = "shuffled") -> Strategy:
    """Let the sites train one after another, each on from where the last one stopped (Chang et al., JAMIA 2018, section 2.3).

    A round is one cycle over all sites; its result is the state of the last one. A site that does not answer is passed over.

    Parameters
    ----------
    order : str
        ``shuffled`` draws a new order every round from the experiment's seed, so that no site always has the last word; ``fixed`` is that
        of the names.
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        if not spool.replies:
            raise BadState("a cycle needs an update", value=0)
        last = max(spool.replies, key=lambda reply: (reply.place, reply.site))
        state = read_state(last.path)
        return {key: state[key] for key in current}, own

    return Strategy(aggregate, chain=order)


SPEC = StrategySpec(
    cyclic, fit="gradient", source="Chang et al., Distributed deep learning networks among institutions for medical imaging, JAMIA 2018"
)
