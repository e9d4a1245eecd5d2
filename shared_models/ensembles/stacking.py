"""Stacking: a logistic regression reads the members' log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.classical.logistic import Logistic
from shared_models.core.arrays import State
from shared_models.ensembles.spec import LEAST, EnsembleSpec

ROUNDS = 9


class Stacking:
    """The exactly federated logistic regression of the catalogue over ``members * classes`` columns."""

    def __init__(self, members: int, classes: int, ridge: float) -> None:
        self.logistic = Logistic(members * classes, classes, ridge)

    def start(self) -> State:
        """Return zero coefficients."""
        return self.logistic.start(seed=0)

    def contribution(self, state: State, p: np.ndarray, y: np.ndarray) -> State:
        """Return the sums of one Newton step."""
        return self.logistic.contribution(state, _columns(p), y, seed=0)

    def combine(self, state: State, contributions: Sequence[State]) -> State:
        """Take one Newton step."""
        return self.logistic.combine(state, list(contributions), [])

    def predict(self, state: State, p: np.ndarray) -> np.ndarray:
        """Return the regression's probabilities."""
        return self.logistic.predict(state, _columns(p))


def _columns(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, LEAST)).transpose(1, 0, 2).reshape(p.shape[1], p.shape[0] * p.shape[2])


def stacking(members: int, classes: int, *, ridge: Annotated[float, Field(gt=0, le=1e6)] = 1.0) -> Stacking:
    """Let a ridge-penalised multinomial logistic regression read the members' log-probabilities; nine rounds, equal to the pooled fit.

    Parameters
    ----------
    members, classes : int
        Of the ensemble.
    ridge : float
        Penalty on the coefficients of standardised columns.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 200)
    >>> told, flipped = np.eye(2)[y] * 0.6 + 0.2, np.eye(2)[1 - y] * 0.6 + 0.2
    >>> fit, state = stacking(2, 2), stacking(2, 2).start()
    >>> for _ in range(ROUNDS):
    ...     state = fit.combine(state, [fit.contribution(state, np.stack([told, flipped]), y)])
    >>> bool((fit.predict(state, np.stack([told, flipped])).argmax(1) == y).all())
    True
    """
    return Stacking(members, classes, ridge)


SPEC = EnsembleSpec(stacking, rounds=ROUNDS, source="Wolpert, Stacked generalization, Neural Networks 1992; Ting & Witten, JAIR 1999")
