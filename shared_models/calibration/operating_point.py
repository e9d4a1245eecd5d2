"""A frozen operating point: from which probability on a patient is called positive, from histograms of the sites' held-out patients."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.calibration.cells import counted, quantile, without_few
from shared_models.calibration.spec import CalibrationSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.state import is_finite, same_layout

REST, POSITIVE = 0, 1
"""Rows of the counts: patients of all other classes, and of the class that is looked for."""


class OperatingPoint:
    """Held-out patients by cell of the probability of one class, those who have it apart from the rest.

    No cell of few patients leaves a site. What must be moved for that is moved against the test: patients without the class to higher cells,
    those with it to lower ones. So neither share that the fit states is better than that of the patients themselves.
    """

    def __init__(self, label: int, specificity: float, cells: int, least: int) -> None:
        self.label, self.specificity, self.least = label, specificity, least
        self.edges = np.linspace(0, 1, cells + 1)

    def start(self, width: int) -> State:
        """Return a threshold that nobody exceeds."""
        del width
        return {"threshold": np.ones(1)} | {name: np.zeros(1) for name in ("rest", "rest_below", "positives", "positives_above")}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return the patients by cell of the class's probability, shape (2, cells): the rest, and those who have the class."""
        del state, seed
        scores = self.scores(np.asarray(x, np.float64))
        positive = np.asarray(y) == self.label
        rest = without_few(counted(scores[~positive], self.edges), self.least)
        found = without_few(counted(scores[positive], self.edges)[::-1], self.least)[::-1]
        return {"n": np.array([float(len(scores))]), "cells": np.stack([rest, found]).astype(np.float64)}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the threshold, and of how many patients which share lay on its right side."""
        del state, weights
        cells = np.rint(np.sum([part["cells"] for part in contributions], axis=0))
        threshold = min(quantile(cells[REST], self.edges, self.specificity).threshold, 1.0)
        below = self.edges[1:] <= threshold + 1e-12
        sums = {
            "rest": cells[REST].sum(),
            "rest_below": cells[REST][below].sum(),
            "positives": cells[POSITIVE].sum(),
            "positives_above": cells[POSITIVE][~below].sum(),
        }
        return {"threshold": np.array([threshold])} | {name: np.array([float(value)]) for name, value in sums.items()}

    def check(self, contribution: State, state: State) -> None:
        """Refuse counts of another shape, negative ones, and more patients in cells than there are."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.label + 2)), np.zeros(0, int), seed=0))
        if (
            not is_finite(contribution)
            or any((value < 0).any() for value in contribution.values())
            or contribution["cells"].sum() > contribution["n"][0] + 1e-6
        ):
            raise BadState("cells hold patients, no more than there are")

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: a decision changes no probability."""
        del state
        return x

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of the class, shape (n,), from logarithms of probabilities (n, classes)."""
        p = np.exp(logits - logits.max(1, keepdims=True))
        return p[:, self.label] / p.sum(1)

    def calls(self, state: State, logits: np.ndarray) -> np.ndarray:
        """Say of each patient whether it is called positive, bool (n,): its probability exceeds the threshold."""
        return self.scores(np.asarray(logits, np.float64)) > state["threshold"][0]

    def shares(self, state: State) -> dict[str, tuple[int, int]]:
        """Return, of the patients that the threshold was chosen on, those on its right side and all, for specificity and sensitivity."""
        pairs = {"specificity": ("rest_below", "rest"), "sensitivity": ("positives_above", "positives")}
        return {name: (int(state[hits][0]), int(state[n][0])) for name, (hits, n) in pairs.items()}


def operating_point(
    classes: int,
    *,
    label: Annotated[int, Field(ge=0, le=63)] = 1,
    specificity: Annotated[float, Field(ge=0.5, le=0.999)] = 0.85,
    cells: Annotated[int, Field(ge=10, le=1000)] = 200,
    least: Annotated[int, Field(ge=1, le=100)] = 5,
) -> OperatingPoint:
    """Freeze the probability of one class above which a patient is called positive; one round.

    It is the smallest edge of a cell that leaves a new patient without the class below it with at least the probability `specificity`
    (the rank is that of the new patient among n + 1, as in conformal prediction). With too few patients it is 1, and nobody is positive.

    Parameters
    ----------
    classes : int
        Of the experiment.
    label : int
        Number of the class that is looked for, counted from 0 in the order of ``data.classes``; all others are the rest.
    specificity : float
        Share of the patients without it who shall not be called positive.
    cells : int
        Of the histogram over 0..1.
    least : int
        Patients that a cell of a site holds at least; not below the site's own policy.

    Raises
    ------
    BadChoice
        No class has that number.

    Examples
    --------
    >>> fit, rng = operating_point(2), np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 3000)
    >>> logits = np.stack([np.zeros(3000), rng.normal(size=3000) + 2 * y], axis=1)
    >>> parts = [fit.contribution({}, logits[i:2000:4], y[i:2000:4], seed=0) for i in range(4)]
    >>> state = fit.combine(fit.start(2), parts, [])
    >>> called = fit.calls(state, logits[2000:])
    >>> bool(abs(1 - called[y[2000:] == 0].mean() - 0.85) < 0.03), bool(called[y[2000:] == 1].mean() > 0.75)
    (True, True)
    """
    if label >= classes:
        raise BadChoice(f"the operating point is of one of {classes} classes, numbered from 0", value=label, remedy="set label to one of them")
    return OperatingPoint(label, specificity, cells, least)


SPEC = CalibrationSpec(
    operating_point,
    reads="logits",
    held_out=(True,),
    cells="cells",
    told=("threshold", "rest", "rest_below", "positives", "positives_above"),
    source="Tong, Feng & Li, Neyman-Pearson classification algorithms and NP receiver operating characteristics, Sci Adv 2018: a bound on one error, "
    "the threshold from an order statistic of held-out patients",
)
