"""`Ensemble`: how the predictions of several models become one; `EnsembleSpec`: a line of ENSEMBLES; and the rule that keeps their fit honest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadCohort, BadState

LEAST = 1e-12
"""Probabilities below this are taken for it."""


class Ensemble(Protocol):
    """Weights of the members, fitted by sums over sites. All methods are pure functions of their arguments.

    `p` are the members' class probabilities, shape (members, n, classes), of patients whom no member was trained on.
    """

    def start(self) -> State:
        """Return the state before any data was seen."""
        ...

    def contribution(self, state: State, p: np.ndarray, y: np.ndarray) -> State:
        """Return a site's sums over its patients; of no patients, zeros."""
        ...

    def combine(self, state: State, contributions: Sequence[State]) -> State:
        """Return the next state from the sites' sums, or from their total alone."""
        ...

    def predict(self, state: State, p: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, classes)."""
        ...


@dataclass(frozen=True)
class EnsembleSpec:
    """One line of ENSEMBLES.

    Parameters
    ----------
    build : callable
        ``build(members, classes, *, knobs) -> Ensemble``.
    rounds : int
        Rounds of sums that the fit takes; 0 needs no patients.
    source : str
        Paper that defines it.
    """

    build: Callable[..., Ensemble]
    rounds: int
    source: str


def refuse_in_fold(names: Collection[str], trained_on: Sequence[Collection[str]]) -> None:
    """Refuse to weigh members by patients whom one of them was trained on: the one that knows them by heart would get all the weight.

    Parameters
    ----------
    names : collection of str
        Patients whose predictions are about to be used.
    trained_on : sequence of collections of str
        Training patients of each member.

    Raises
    ------
    BadCohort
        A patient is in both.

    Examples
    --------
    >>> refuse_in_fold(["a", "b"], [{"c"}, {"d"}])
    >>> refuse_in_fold(["a", "b"], [{"c"}, {"b", "d"}])
    Traceback (most recent call last):
    ...
    shared_models.core.errors.BadCohort: members are weighed by patients that none of them was trained on; found 1; use out-of-fold predictions
    """
    seen = sum(len(set(names) & set(known)) for known in trained_on)
    if seen:
        raise BadCohort("members are weighed by patients that none of them was trained on", value=seen, remedy="use out-of-fold predictions")


def fit_ensemble(ensemble: Ensemble, rounds: int, sites: Sequence[tuple[np.ndarray, np.ndarray]]) -> State:
    """Return the fit over sites, each with the members' probabilities (members, n, classes) and labels (n,), as a federation would make it.

    Raises
    ------
    BadState
        A round asks for patients and there are none.
    """
    state = ensemble.start()
    for _ in range(rounds):
        if not any(len(y) for _, y in sites):
            raise BadState("an ensemble is weighed by patients", value=0)
        state = ensemble.combine(state, [ensemble.contribution(state, p, y) for p, y in sites])
    return state
