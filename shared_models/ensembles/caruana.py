"""Ensemble selection: the member that helps most is added again and again, judged by all sites together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared_models.core.arrays import State
from shared_models.ensembles.spec import LEAST, EnsembleSpec

ROUNDS = 20


class Selection:
    """Counts of how often each member was taken; a round sums the log-loss that each choice would give."""

    def __init__(self, members: int) -> None:
        self.members = members

    def start(self) -> State:
        """Return nobody taken."""
        return {"taken": np.zeros(self.members)}

    def contribution(self, state: State, p: np.ndarray, y: np.ndarray) -> State:
        """Return the summed log-loss of the present ensemble with each member added, shape (members,)."""
        taken = state["taken"]
        truth = p[:, np.arange(len(y)), y]
        with_each = ((taken @ truth)[None] + truth) / (taken.sum() + 1)
        return {"loss": -np.log(np.maximum(with_each, LEAST)).sum(1)}

    def combine(self, state: State, contributions: Sequence[State]) -> State:
        """Take the member with the smallest total loss; of equals the first."""
        loss = np.sum([part["loss"] for part in contributions], axis=0)
        return {"taken": state["taken"] + (np.arange(self.members) == int(np.argmin(loss)))}

    def predict(self, state: State, p: np.ndarray) -> np.ndarray:
        """Return the mean over all that were taken."""
        taken = state["taken"]
        return np.einsum("m,mnc->nc", taken / taken.sum(), p) if taken.any() else p.mean(0)


def caruana(members: int, classes: int) -> Selection:
    """Select members greedily, with replacement, by the log-loss over all sites; twenty rounds of one number a member.

    Parameters
    ----------
    members, classes : int
        Of the ensemble.

    Examples
    --------
    >>> good, bad, y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([0, 1])
    >>> fit, state = caruana(2, 2), caruana(2, 2).start()
    >>> for _ in range(3):
    ...     state = fit.combine(state, [fit.contribution(state, np.stack([bad, good]), y)])
    >>> state["taken"].tolist()
    [0.0, 3.0]
    """
    del classes
    return Selection(members)


SPEC = EnsembleSpec(caruana, rounds=ROUNDS, source="Caruana et al., Ensemble selection from libraries of models, ICML 2004, with replacement")
