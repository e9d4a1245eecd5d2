"""Gradient boosted trees of the hazard in each interval of time, federated exactly: every tree is that of the pooled histograms.

Cox's likelihood ranks each patient against all who are at risk, also at other sites; that of hazards by interval is a sum over patients and the
intervals that they were at risk in, and so are its derivatives: sums over sites are those of all patients in one place.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.histogram_grid import CELLS, bins_of, cell_counts, edges_of, grid_of
from shared_models.blocks.histogram_trees import Trees, best_split, level_histograms
from shared_models.blocks.moments import Scaler, total_of
from shared_models.blocks.spec import ModelSpec
from shared_models.classical.boosting import GRAIN
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.survival.grid import HALF_YEARS, Times, check_rising
from shared_models.survival.hazards import risks_at
from shared_models.survival.person_intervals import person_intervals


class SurvivalBoosting:
    """One tree a step over the columns and the number of the interval, so that a column's effect may change with time.

    Round 1 sums counts, values and squares. Round 2 counts patients on a grid around the mean, which gives the edges of the bins, and patients at
    risk and events by interval, which give the hazards to start from. Each further round grows the tree of a step by one level, `depth` rounds a
    step. The gate of a site lets histograms leave through the secure sum alone: a bin may hold one patient.
    """

    def __init__(self, columns: int, times: tuple[float, ...], trees: int, depth: int, bins: int, rate: float, penalty: float, min_leaf: int) -> None:
        self.columns, self.times, self.trees, self.depth, self.bins = columns, times, trees, depth, max(bins, len(times))
        self.rate, self.penalty, self.min_leaf, self.scaler = rate, penalty, min_leaf, Scaler(columns)

    def start(self, *, seed: int) -> State:
        """Return trees that say nothing; `ready` is 0 until the grid is known, 1 until the edges are, then 2; `grown` counts levels.

        `base` (intervals,) is the logit of the hazard that all patients together have.
        """
        del seed
        trees = Trees.empty(self.trees, 1, depth=self.depth)
        known = {"ready": np.zeros(1), "grown": np.zeros(1, np.int64), "low": np.zeros(self.columns), "width": np.ones(self.columns)}
        edges = np.vstack([np.zeros((self.columns, self.bins - 1)), np.arange(self.bins - 1) + 0.5])
        return {**known, "edges": edges, "base": np.zeros(len(self.times)), **trees._asdict()}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n, 3), time, event and stratum: what the round needs."""
        del seed
        rows, outcome = np.asarray(x, np.float64).reshape(len(x), self.columns), np.asarray(y, np.float64).reshape(len(x), 3)
        n = {"n": np.array([float(len(rows))])}
        if state["ready"][0] == 0:
            return self.scaler.sums(rows)
        patient, interval, event = person_intervals(outcome[:, 0], outcome[:, 1], self.times)
        if state["ready"][0] == 1:
            parts = {"at_risk": np.ones(len(event)), "events": event}
            counted = {key: np.bincount(interval, part, minlength=len(self.times)).astype(np.float64) for key, part in parts.items()}
            return {**n, "cells": cell_counts(rows, state["low"], state["width"]), **counted}
        step, level = divmod(int(state["grown"][0]), self.depth)
        if step >= self.trees:
            return n
        stacked = np.column_stack([rows[patient], interval])
        p = _hazard(state["base"][interval] + self._scores(state, stacked, step))
        slope = np.rint((p - event) / GRAIN)[None] * GRAIN
        bend = np.rint(p * (1 - p) / GRAIN)[None] * GRAIN
        place = Trees(*(state[name][step] for name in Trees._fields)).places(stacked)
        found = level_histograms(place, bins_of(stacked, state["edges"]), [slope, bend, np.ones_like(slope)], level=level, width=self.bins)
        return {**n, **dict(zip(("slopes", "bends", "patients"), found, strict=True))}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the grid (round 1), edges and first hazards (round 2), or one level of the tree of a step."""
        del weights
        total = total_of(contributions)
        if state["ready"][0] == 0:
            known = self.scaler.found({}, total)
            low, width = grid_of(known["mean"], known["scale"])
            return {**state, "low": low, "width": width, "ready": np.ones(1)}
        if state["ready"][0] == 1:
            edges = np.vstack([edges_of(total["cells"], state["low"], state["width"], self.bins), state["edges"][-1:]])
            # Half an event and half a survivor more: an interval without either has a hazard, too.
            base = np.log((total["events"] + 0.5) / (total["at_risk"] - total["events"] + 0.5))
            return {**state, "edges": edges, "base": base, "ready": np.full(1, 2.0)}
        grown = int(state["grown"][0])
        step, level = divmod(grown, self.depth)
        if step >= self.trees:
            return state
        trees = Trees(*(state[name].copy() for name in Trees._fields))
        one = Trees(*(part[step, 0] for part in trees))
        for node in range(2**level):
            sums = [total[name][0, node] for name in ("slopes", "bends", "patients")]
            self._grow(one, 2**level - 1 + node, sums, state["edges"], last=level == self.depth - 1)
        return {**state, **trees._asdict(), "grown": np.array([grown + 1])}

    def _grow(self, tree: Trees, place: int, sums: list[np.ndarray], edges: np.ndarray, *, last: bool) -> None:
        if place and tree.feature[(place - 1) // 2] < 0:
            return  # its parent was not split
        split = best_split(*sums, penalty=self.penalty, least=self.min_leaf)
        if split is None:
            tree.value[place] = -self.rate * sums[0][0].sum() / (sums[1][0].sum() + self.penalty)
            return
        tree.feature[place], tree.threshold[place] = split.column, edges[split.column, split.bin]
        if last:
            tree.value[2 * place + 1], tree.value[2 * place + 2] = self.rate * split.left, self.rate * split.right

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, and counts and histograms that no patients can have."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros((0, 3)), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in contribution.keys() - {"sum", "slopes"}):
            raise BadState("sums must be finite and counts positive")
        if "events" in contribution:
            at_risk = contribution["at_risk"]
            if (contribution["events"] > at_risk).any() or (np.diff(at_risk) > 0).any() or at_risk[0] > contribution["n"][0]:
                raise BadState("who has an event is at risk, and nobody comes back")
        if "slopes" in contribution:
            most = contribution["patients"] * (1 + 1e-9)
            if (np.abs(contribution["slopes"]) > most).any() or (contribution["bends"] > most / 4).any():
                raise BadState("a histogram of derivatives must be one of patients")

    def hazards(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the hazard in each interval, shape (n, intervals), by the trees whose levels are all grown."""
        rows, count = np.asarray(x, np.float64).reshape(len(x), self.columns), len(self.times)
        stacked = np.column_stack([np.repeat(rows, count, axis=0), np.tile(np.arange(count), len(rows))])
        score = self._scores(state, stacked, int(state["grown"][0]) // self.depth).reshape(len(rows), count)
        return _hazard(state["base"] + score)

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the logarithm of the cumulative hazard at the end of the last interval, shape (n, 1): higher is worse."""
        return np.log(-np.log1p(-self.hazards(state, x)).sum(1))[:, None]

    def risks(self, state: State, x: np.ndarray, horizons: tuple[float, ...]) -> np.ndarray:
        """Return P(event by each horizon), shape (n, horizons); they rise with time by construction.

        Raises
        ------
        BadInput
            A horizon past the last interval.
        """
        return risks_at(self.hazards(state, x), self.times, horizons)

    def _scores(self, state: State, stacked: np.ndarray, steps: int) -> np.ndarray:
        return Trees(*(state[name][:steps] for name in Trees._fields)).sums(stacked)[:, 0]


def _hazard(logit: np.ndarray) -> np.ndarray:
    return np.clip(1 / (1 + np.exp(-np.clip(logit, -500, 500))), 1e-12, 1 - 1e-12)


def survival_boosting(
    inputs: int,
    outputs: int,
    *,
    times: Times = HALF_YEARS,
    trees: Annotated[int, Field(ge=1, le=1000)] = 20,
    depth: Annotated[int, Field(ge=1, le=8)] = 3,
    bins: Annotated[int, Field(ge=2, le=CELLS)] = 32,
    rate: Annotated[float, Field(gt=0, le=1)] = 0.3,
    penalty: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    min_leaf: Annotated[int, Field(ge=1, le=100_000)] = 20,
) -> SurvivalBoosting:
    """Build gradient boosted hazards over `inputs` columns; they need ``2 + trees * depth`` rounds, the secure sum, and a survival target.

    Parameters
    ----------
    times : tuple of float
        Ends of the intervals, rising, in the unit of ``data.time``; what comes after the last is not learnt.
    trees : int
        Steps; each has one tree.
    depth : int
        Levels of splits of a tree.
    bins : int
        Bins of a column, at least as many as intervals.
    rate : float
        Share of each tree's answer that is taken.
    penalty : float
        On the square of a leaf's value.
    min_leaf : int
        Intervals of patients of all sites together that a leaf holds at least.

    Raises
    ------
    BadChoice
        Times that do not rise.

    Examples
    --------
    >>> model = survival_boosting(1, 2, times=(1.0, 2.0), trees=4, depth=2, min_leaf=1)
    >>> x, y = np.repeat([[0.0], [1.0]], 10, axis=0), np.column_stack([np.repeat([3.0, 1.5], 10), np.ones(20), np.zeros(20)])
    >>> state = model.start(seed=0)
    >>> for _ in range(2 + 4 * 2):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [20])
    >>> (model.risks(state, np.array([[0.0], [1.0]]), (1.0, 2.0)) > 0.5).tolist()
    [[False, False], [False, True]]
    """
    del outputs
    check_rising(times, "model.times")
    return SurvivalBoosting(inputs, tuple(times), trees, depth, bins, rate, penalty, min_leaf)


SPEC = ModelSpec(
    build=survival_boosting,
    takes="table",
    fit="sums",
    task="survival",
    counts={"n": "all"},
    summed_only=True,
    source="Friedman, Ann Stat 2001; Chen & Guestrin, KDD 2016; hazards by interval: Allison, Sociol Methodol 1982; sums: F-tree",
)
