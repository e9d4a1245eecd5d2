"""Life tables of the federation: who is at risk, has the event or leaves by another cause in each interval of time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.moments import total_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.statistics.spec import StatisticSpec
from shared_models.survival import life_table as tables
from shared_models.survival.grid import HALF_YEARS, Times, check_rising
from shared_models.survival.small_cells import coarsened


class LifeTableSum:
    """Counts on an agreed grid, summed over sites, then coarsened so that nothing is said of few patients.

    A site's own counts tell of single patients: they leave through the secure sum alone. The server keeps no more than the coarsened total.
    """

    def __init__(self, columns: tuple[str, ...], times: tuple[float, ...], causes: int, least: int) -> None:
        self.columns, self.times, self.causes, self.least = columns, np.array(times), causes, least

    def columns_after(self) -> tuple[str, ...]:
        """Return the columns as they were: nothing is changed."""
        return self.columns

    def start(self, *, seed: int) -> State:
        """Return a table of nobody: `ends` counts the intervals that are told of, the arrays after them are 0."""
        del seed
        t = len(self.times)
        return {"n": np.zeros(1), "ends": np.zeros(1), "times": np.zeros(t), "at_risk": np.zeros(t), "events": np.zeros((self.causes, t))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return a site's counts of y (n, 3): time, cause (0 for last seen), stratum."""
        del state, seed, weights
        course = np.asarray(y, np.float64).reshape(len(x), 3)
        table = tables.life_table(course[:, 0], course[:, 1].astype(int), grid=self.times, kinds=self.causes)
        return {"n": np.array([float(len(x))]), "at_risk": table.at_risk, "events": table.events}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the total, coarsened."""
        del weights
        total = total_of(contributions)
        told = coarsened(tables.LifeTable(self.times, total["at_risk"], total["events"]), self.least)
        known, count = {**self.start(seed=0), "n": total["n"], "ends": np.array([float(len(told.times))])}, len(told.times)
        for name in ("times", "at_risk", "events"):
            known[name][..., :count] = getattr(told, name)
        return {**state, **known}

    def check(self, contribution: State, state: State) -> None:
        """Refuse counts of another shape, and counts that no patients can have."""
        same_layout(contribution, self.contribution(state, np.zeros((0, 1)), np.zeros((0, 3)), seed=0))
        if not is_finite(contribution) or any((value < 0).any() for value in contribution.values()):
            raise BadState("counts must be finite and not negative")
        at_risk, died = contribution["at_risk"], contribution["events"].sum(0)
        if at_risk[0] > contribution["n"][0] or (at_risk[1:] > at_risk[:-1] - died[:-1]).any() or died[-1] > at_risk[-1]:
            raise BadState("who has an event is at risk, and nobody comes back")

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return `x` as it is."""
        del state, own
        return x


def told_table(state: State) -> tables.LifeTable:
    """Return the table that a fit tells of.

    Parameters
    ----------
    state : dict
        The fit's arrays (`shared_models.phases.fit_of`).
    """
    count = int(state["ends"][0])
    return tables.LifeTable(state["times"][:count], state["at_risk"][:count], state["events"][:, :count])


def life_table(
    columns: tuple[str, ...],
    *,
    times: Times = HALF_YEARS,
    causes: Annotated[int, Field(ge=1, le=9)] = 1,
    least: Annotated[int, Field(ge=1, le=1000)] = 5,
) -> LifeTableSum:
    """Count who is at risk, has an event or is lost, for Kaplan-Meier and Aalen-Johansen curves; one round, the secure sum, a survival target.

    Parameters
    ----------
    columns : tuple of str
        Of a table; they stay as they are.
    times : tuple of float
        Ends of the intervals, rising, in the unit of ``data.time``.
    causes : int
        Kinds of events: the classes of the experiment but the first.
    least : int
        Events of each cause, and losses, that an interval tells of at least, all sites together.

    Raises
    ------
    BadChoice
        Times that do not rise.

    Examples
    --------
    >>> fit, y = life_table((), times=(1.0, 2.0), least=1), np.array([[0.5, 1.0, 0], [1.5, 0, 0], [9.0, 1, 0]])
    >>> state = fit.combine(fit.start(seed=0), [fit.contribution({}, np.zeros((3, 0)), y, seed=0)], [])
    >>> round(tables.kaplan_meier(told_table(state)).at(1), 4)
    0.6667
    """
    check_rising(times, "times of a life table")
    return LifeTableSum(columns, tuple(times), causes, least)


SPEC = StatisticSpec(
    life_table,
    takes="outcome",
    rounds=1,
    source="Kaplan & Meier, J Am Stat Assoc 1958;53:457; Aalen & Johansen, Scand J Stat 1978;5:141; tables summed over sites",
    summed_only=True,
)
