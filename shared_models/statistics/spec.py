"""`Statistic`: what sites sum before training, and how its result changes what a model sees; `StatisticSpec`: a line of STATISTICS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from shared_models.core.arrays import State

Takes = Literal["table", "study", "outcome"]


class Statistic(Protocol):
    """A statistic whose fit is a sum over sites. All methods are pure functions of their arguments; x is float64, one row a record.

    A statistic of tables reads the table as the statistics before it have left it. One of studies reads a row of numbers of each prepared
    study and is applied to images, not by `seen` (`client/statistics`). One of outcomes reads y, of survival (n, 3) time, cause and stratum, and
    changes nothing that a model sees.
    """

    def columns_after(self) -> tuple[str, ...]:
        """Return the columns that a table has once this statistic was applied."""
        ...

    def start(self, *, seed: int) -> State:
        """Return the state before any data was seen."""
        ...

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return a site's sums over its training records."""
        ...

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the fit from the sites' sums, or from their total alone."""
        ...

    def check(self, contribution: State, state: State) -> None:
        """Raise BadState when sums are malformed."""
        ...

    def own(self, state: State, x: np.ndarray) -> State:
        """Return what a site finds out from its own training records beside the fit; it never leaves the site."""
        ...

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return what the model sees of the rows `x` under the fit, shape (n, len(columns_after()))."""
        ...


@dataclass(frozen=True)
class StatisticSpec:
    """One line of STATISTICS.

    Parameters
    ----------
    build : callable
        ``build(columns, *, knobs) -> Statistic``: the table's columns come from the system, the keyword-only rest may be set in the
        experiment's ``[[statistics]]``.
    takes : str
        ``table`` reads and changes the rows of a table, ``study`` the image of a prepared study, ``outcome`` reads what became of patients.
    rounds : int
        Rounds that the fit takes.
    source : str
        Paper that defines it.
    counts : mapping
        Arrays of a contribution that are numbers of records, as in `ModelSpec`.
    summed_only : bool
        Its sums tell of groups as small as one patient: they leave a site through the secure sum alone.
    """

    build: Callable[..., Statistic]
    takes: Takes
    rounds: int
    source: str
    counts: Mapping[str, Literal["all", "class"]] = field(default_factory=lambda: {"n": "all"})
    summed_only: bool = False

    @property
    def fit(self) -> str:
        """How sites contribute: by sums, as models of that kind."""
        return "sums"
