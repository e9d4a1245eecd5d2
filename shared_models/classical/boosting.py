"""Gradient boosted trees on a table, federated exactly: sites send histograms of slopes and bends, every tree is that of the pooled histograms."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.histogram_grid import CELLS, bins_of, cell_counts, edges_of, grid_of
from shared_models.blocks.histogram_trees import Trees, best_split, level_histograms
from shared_models.blocks.moments import Scaler, total_of
from shared_models.blocks.softmax import softmax
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

GRAIN = 2.0**-20
"""Slopes and bends are multiples of it: such numbers add without rounding, so that any order and any spread over sites gives the same bits."""


class Boosting:
    """One tree a class and step, fitted to the multinomial loss by its first and second derivatives.

    Round 1 sums counts, values and squares, round 2 counts patients on a grid around the mean: together they give the edges of the bins, at
    quantiles of all patients. Each further round grows the trees of a step by one level, from the histograms of all sites, `depth` rounds a
    step. The gate of a site lets histograms leave through the secure sum alone: a bin may hold one patient.
    """

    def __init__(self, columns: int, classes: int, trees: int, depth: int, bins: int, rate: float, penalty: float, min_leaf: int) -> None:
        self.columns, self.classes, self.trees, self.depth, self.bins = columns, classes, trees, depth, bins
        self.rate, self.penalty, self.min_leaf, self.scaler = rate, penalty, min_leaf, Scaler(columns)

    def start(self, *, seed: int) -> State:
        """Return trees that say nothing; `ready` is 0 until the grid is known, 1 until the edges are, then 2; `grown` counts levels."""
        del seed
        trees = Trees.empty(self.trees, self.classes, depth=self.depth)
        known = {"ready": np.zeros(1), "grown": np.zeros(1, np.int64), "low": np.zeros(self.columns), "width": np.ones(self.columns)}
        return {**known, "edges": np.zeros((self.columns, self.bins - 1)), **trees._asdict()}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers: what the round needs, by the names that `combine` reads."""
        del seed
        rows = np.asarray(x, np.float64).reshape(len(x), self.columns)
        n = {"n": np.array([float(len(rows))])}
        if state["ready"][0] == 0:
            return self.scaler.sums(rows)
        if state["ready"][0] == 1:
            return {**n, "cells": cell_counts(rows, state["low"], state["width"])}
        step, level = divmod(int(state["grown"][0]), self.depth)
        if step >= self.trees:
            return n
        p = softmax(self._scores(state, rows, step))
        slope = np.rint((p - np.eye(self.classes)[y]) / GRAIN).T * GRAIN
        bend = np.rint(p * (1 - p) / GRAIN).T * GRAIN
        place = Trees(*(state[name][step] for name in Trees._fields)).places(rows)
        parts = [slope, bend, np.ones_like(slope)]
        found = level_histograms(place, bins_of(rows, state["edges"]), parts, level=level, width=self.bins)
        return {**n, **dict(zip(("slopes", "bends", "patients"), found, strict=True))}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the grid (round 1), the edges (round 2), or one level of the trees of a step."""
        del weights
        total = total_of(contributions)
        if state["ready"][0] == 0:
            known = self.scaler.found({}, total)
            low, width = grid_of(known["mean"], known["scale"])
            return {**state, "low": low, "width": width, "ready": np.ones(1)}
        if state["ready"][0] == 1:
            return {**state, "edges": edges_of(total["cells"], state["low"], state["width"], self.bins), "ready": np.full(1, 2.0)}
        grown = int(state["grown"][0])
        step, level = divmod(grown, self.depth)
        if step >= self.trees:
            return state
        trees = Trees(*(state[name].copy() for name in Trees._fields))
        for number in range(self.classes):
            one = Trees(*(part[step, number] for part in trees))
            for node in range(2**level):
                sums = [total[name][number, node] for name in ("slopes", "bends", "patients")]
                self._grow(one, 2**level - 1 + node, sums, state["edges"], last=level == self.depth - 1)
        return {**state, **trees._asdict(), "grown": np.array([grown + 1])}

    def _grow(self, tree: Trees, place: int, sums: list[np.ndarray], edges: np.ndarray, *, last: bool) -> None:
        if place and tree.feature[(place - 1) // 2] < 0:
            return  # its parent was not split
        split = best_split(*sums, penalty=self.penalty, least=self.min_leaf)
        if split is None:
            slope, bend = sums[0][0].sum(), sums[1][0].sum()
            tree.value[place] = -self.rate * slope / (bend + self.penalty)
            return
        tree.feature[place], tree.threshold[place] = split.column, edges[split.column, split.bin]
        if last:
            tree.value[2 * place + 1], tree.value[2 * place + 2] = self.rate * split.left, self.rate * split.right

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, and histograms that no patients can have: slopes lie within +-1 a patient, bends within 0 and 1/4."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in contribution.keys() - {"sum", "slopes"}):
            raise BadState("sums must be finite and counts positive")
        if "slopes" in contribution:
            most = contribution["patients"] * (1 + 1e-9)
            if (np.abs(contribution["slopes"]) > most).any() or (contribution["bends"] > most / 4).any():
                raise BadState("a histogram of derivatives must be one of patients")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, classes), by the trees whose levels are all grown."""
        rows = np.asarray(x, np.float64).reshape(len(x), self.columns)
        return softmax(self._scores(state, rows, int(state["grown"][0]) // self.depth))

    def _scores(self, state: State, rows: np.ndarray, steps: int) -> np.ndarray:
        return Trees(*(state[name][:steps] for name in Trees._fields)).sums(rows)


def boosting(
    inputs: int,
    outputs: int,
    *,
    trees: Annotated[int, Field(ge=1, le=1000)] = 20,
    depth: Annotated[int, Field(ge=1, le=8)] = 3,
    bins: Annotated[int, Field(ge=2, le=CELLS)] = 32,
    rate: Annotated[float, Field(gt=0, le=1)] = 0.3,
    penalty: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    min_leaf: Annotated[int, Field(ge=1, le=1000)] = 5,
) -> Boosting:
    """Build gradient boosted trees over `inputs` columns and `outputs` classes; they need ``2 + trees * depth`` rounds and the secure sum.

    Parameters
    ----------
    trees : int
        Steps; each has one tree a class.
    depth : int
        Levels of splits of a tree.
    bins : int
        Bins of a column.
    rate : float
        Share of each tree's answer that is taken.
    penalty : float
        On the square of a leaf's value.
    min_leaf : int
        Patients of all sites together that a leaf holds at least.

    Examples
    --------
    >>> model = boosting(1, 2, trees=3, depth=1, min_leaf=1)
    >>> x, y = np.arange(20.0)[:, None], (np.arange(20) >= 10).astype(int)
    >>> state = model.start(seed=0)
    >>> for _ in range(2 + 3):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [20])
    >>> model.predict(state, np.array([[2.0], [17.0]])).argmax(1).tolist()
    [0, 1]
    """
    return Boosting(inputs, outputs, trees, depth, bins, rate, penalty, min_leaf)


SPEC = ModelSpec(
    build=boosting,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    summed_only=True,
    source="Chen & Guestrin, KDD 2016; Friedman, Ann Stat 2001; summed histograms: design of the federation modes (F-tree)",
)
