"""Means of the members: nothing is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from shared_models.core.arrays import State
from shared_models.ensembles.spec import LEAST, EnsembleSpec


class Mean:
    """Mean of probabilities, or of their logarithms."""

    def __init__(self, of: str) -> None:
        self.of = of

    def start(self) -> State:
        """Return nothing."""
        return {}

    def contribution(self, state: State, p: np.ndarray, y: np.ndarray) -> State:
        """Return nothing."""
        del state, p, y
        return {}

    def combine(self, state: State, contributions: Sequence[State]) -> State:
        """Return nothing."""
        del contributions
        return state

    def predict(self, state: State, p: np.ndarray) -> np.ndarray:
        """Return the mean over members, as probabilities."""
        del state
        if self.of == "probability":
            return p.mean(0)
        mean = np.exp(np.log(np.maximum(p, LEAST)).mean(0))
        return mean / mean.sum(1, keepdims=True)


def mean(members: int, classes: int, *, of: Literal["probability", "logit"] = "probability") -> Mean:
    """Average the members; the log-loss of the mean is at most the mean of their log-losses (Jensen).

    Parameters
    ----------
    members, classes : int
        Of no use: any number is averaged.
    of : str
        ``probability`` (arithmetic mean) or ``logit`` (normalised geometric mean: a member that is sure counts for more).

    Examples
    --------
    >>> mean(2, 2).predict({}, np.array([[[0.8, 0.2]], [[0.4, 0.6]]])).round(3).tolist()
    [[0.6, 0.4]]
    """
    del members, classes
    return Mean(of)


SPEC = EnsembleSpec(mean, rounds=0, source="Lakshminarayanan, Pritzel & Blundell, Deep ensembles, NeurIPS 2017, equation 3; logits: Hinton, 1999")
