"""A flag for patients unlike those of the federation: the distance of a representation from the training patients' mean, in their covariance."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.calibration.cells import counted, quantile, without_few
from shared_models.calibration.spec import CalibrationSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.statistics.moments import check_moments, moments, summed

MOMENTS = 2
"""Rounds of mean, and of mean and covariance about it, before the histogram of distances."""
DECADES = (-2.0, 3.0)
"""Range of the histogram: powers of ten of the squared distance over the width, which is about 1 for a familiar patient."""


class Unfamiliar:
    """Two rounds sum mean and covariance over training patients, a third the distances of held-out patients in cells."""

    def __init__(self, familiar: float, shrinkage: float, cells: int, least: int) -> None:
        self.familiar, self.shrinkage, self.least = familiar, shrinkage, least
        self.edges = np.concatenate([[0.0], np.logspace(*DECADES, cells)])

    def start(self, width: int) -> State:
        """Return mean 0, no covariance, and a threshold that flags nobody."""
        nothing = {name: np.zeros(1) for name in ("round", "patients")}
        ones = {name: np.ones(1) for name in ("least", "most")}
        return {**nothing, **ones, "mean": np.zeros(width), "precision": np.eye(width), "threshold": np.array([np.finfo(np.float64).max])}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return the sums about the mean known so far, or afterwards the patients by cell of their distance, none of the cells with few."""
        del y, seed
        rows = np.asarray(x, np.float64).reshape(-1, len(state["mean"]))
        late = bool(state["round"][0] >= MOMENTS)
        counts = without_few(counted(self.distances(state, rows), self.edges), self.least) if late else np.zeros(len(self.edges) - 1)
        known = {"mean": state["mean"], "ready": np.minimum(state["round"], 1.0)}
        sums = summed(known, rows[:0] if late else rows, None, products=True)
        return {**sums, "n": np.array([float(len(rows))]), "cells": counts.astype(np.float64), "sites": np.ones(1)}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return mean and shrunk covariance, or afterwards the threshold."""
        del weights
        after = {**state, "round": state["round"] + 1}
        if state["round"][0] == 0:
            total = {key: np.sum([part[key] for part in contributions], axis=0) for key in ("n", "sum")}
            if total["n"][0] <= 0:
                raise BadState("a mean needs patients", value=0)
            return {**after, "mean": state["mean"] + total["sum"] / total["n"]}
        if state["round"][0] < MOMENTS:
            mean, covariance = moments(state["mean"], contributions)
            width = len(mean)
            size = float(np.trace(covariance)) / width
            shrunk = (1 - self.shrinkage) * covariance + (self.shrinkage * size + 1e-12 * max(size, 1e-300)) * np.eye(width)
            return {**after, "mean": mean, "precision": np.linalg.pinv(shrunk, hermitian=True) if size > 0 else np.eye(width)}
        total = {key: np.sum([part[key] for part in contributions], axis=0) for key in ("cells", "sites")}
        found = quantile(np.rint(total["cells"]), self.edges, self.familiar, moved=float(total["sites"][0]) * 2 * (self.least - 1))
        never = not found.threshold < self.edges[-1]  # beyond the last cell nothing was told apart
        return {
            **after,
            "threshold": np.array([np.finfo(np.float64).max if never else found.threshold]),
            "patients": np.array([np.rint(total["cells"]).sum()]),
            "least": np.array([1.0 if never else found.least]),
            "most": np.array([1.0 if never else found.most]),
        }

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape or that no patients can have, and more patients in cells than there are."""
        like = self.contribution(state, np.zeros((0, len(state["mean"]))), np.zeros(0, int), seed=0)
        same_layout(contribution, like)
        sums = ("n", "sum", "second")
        check_moments({key: contribution[key] for key in sums}, {key: like[key] for key in sums})
        cells = contribution["cells"]
        if not is_finite(contribution) or (cells < 0).any() or contribution["sites"][0] < 0 or cells.sum() > contribution["n"][0] + 1e-6:
            raise BadState("cells hold patients, no more than there are")

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: a flag changes no probability."""
        del state
        return x

    def distances(self, state: State, rows: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distance of each representation (n, width) over the width, shape (n,)."""
        away = np.asarray(rows, np.float64) - state["mean"]
        return np.maximum(np.einsum("ni,ij,nj->n", away, state["precision"], away), 0) / len(state["mean"])

    def flags(self, state: State, rows: np.ndarray) -> np.ndarray:
        """Say of each representation whether it is farther than the threshold, bool (n,)."""
        return self.distances(state, rows) > state["threshold"][0]


def unfamiliar(
    classes: int,
    *,
    familiar: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95,
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.1,
    cells: Annotated[int, Field(ge=10, le=1000)] = 100,
    least: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Unfamiliar:
    """Flag patients who lie farther from the federation's than a share `familiar` of its held-out ones; three rounds.

    The representation is what the network's classifier reads, or the row of a table. A flag says that the model has no ground to speak of
    this patient; none says nothing about whether it is right.

    Parameters
    ----------
    classes : int
        Of no use: the distance knows none.
    familiar : float
        Share of the held-out patients who shall not be flagged.
    shrinkage : float
        Share of the covariance that is replaced by an equal variance in all directions.
    cells : int
        Of the histogram of distances, of equal ratio.
    least : int
        Patients that a cell of a site holds at least; not below the site's own policy.

    Examples
    --------
    >>> fit, rng = unfamiliar(2), np.random.default_rng(0)
    >>> x, y, state = rng.normal(size=(900, 4)) * [1, 2, 3, 4], np.zeros(900, int), fit.start(4)
    >>> for rows in (x[:600], x[:600], x[600:]):
    ...     state = fit.combine(state, [fit.contribution(state, rows, y[: len(rows)], seed=0)], [])
    >>> bool(abs(fit.flags(state, rng.normal(size=(2000, 4)) * [1, 2, 3, 4]).mean() - 0.05) < 0.03), fit.flags(state, np.full((1, 4), 20.0)).tolist()
    (True, [True])
    """
    del classes
    return Unfamiliar(familiar, shrinkage, cells, least)


SPEC = CalibrationSpec(
    unfamiliar,
    reads="representation",
    held_out=(False,) * MOMENTS + (True,),
    cells="cells",
    source="Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018, here of all classes together",
)
