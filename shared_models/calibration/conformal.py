"""Split conformal prediction: the set of classes that holds the true one with a stated probability, from histograms of the sites' scores."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from shared_models.calibration.cells import counted, quantile, without_few
from shared_models.calibration.spec import CalibrationSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


class Conformal:
    """Scores of held-out patients in equal cells of 0..1; the threshold is a quantile of all sites' counts."""

    def __init__(self, classes: int, coverage: float, score: str, cells: int, least: int) -> None:
        self.classes, self.coverage, self.score, self.least = classes, coverage, score, least
        self.edges = np.linspace(0, 1, cells + 1)

    def start(self, width: int) -> State:
        """Return a threshold that lets every class in."""
        del width
        return {"threshold": np.ones(1), "patients": np.zeros(1), "least": np.ones(1), "most": np.ones(1)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return the patients by cell of the score of their true class, none of the cells with few, and 1 for the site."""
        del state, seed
        scores = self.scores(np.asarray(x, np.float64).reshape(-1, self.classes))[np.arange(len(y)), y]
        counts = without_few(counted(scores, self.edges), self.least)
        return {"n": np.array([float(len(scores))]), "cells": counts.astype(np.float64), "sites": np.ones(1)}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the threshold, how many patients it is of, and the bounds of its coverage."""
        del state, weights
        total = {key: np.sum([part[key] for part in contributions], axis=0) for key in ("cells", "sites")}
        found = quantile(np.rint(total["cells"]), self.edges, self.coverage, moved=float(total["sites"][0]) * 2 * (self.least - 1))
        threshold = min(found.threshold, 1.0)
        return {
            "threshold": np.array([threshold]),
            "patients": np.array([np.rint(total["cells"]).sum()]),
            "least": np.array([found.least]),
            "most": np.array([found.most if threshold < 1 else 1.0]),
        }

    def check(self, contribution: State, state: State) -> None:
        """Refuse counts of another shape, negative ones, and more patients in cells than there are."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.classes)), np.zeros(0, int), seed=0))
        if (
            not is_finite(contribution)
            or any((value < 0).any() for value in contribution.values())
            or contribution["cells"].sum() > contribution["n"][0] + 1e-6
        ):
            raise BadState("cells hold patients, no more than there are")

    def seen(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: sets change no probability."""
        del state
        return x

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Return how ill each class fits each patient, 0..1, shape (n, classes), from logarithms of probabilities.

        ``lac``: one less the class's probability. ``aps``: the probability of all classes at least as probable as it. The most probable class
        has 0 in both, so that it is in every set and the bounds of the coverage hold for the sets as they are shown.
        """
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        scores = 1 - p if self.score == "lac" else np.minimum(np.where(p[:, None, :] >= p[:, :, None], p[:, None, :], 0).sum(2), 1.0)
        scores[np.arange(len(p)), p.argmax(1)] = 0.0
        return scores

    def sets(self, state: State, logits: np.ndarray) -> np.ndarray:
        """Return which classes are in each patient's set, bool (n, classes); the most probable one always is."""
        return self.scores(np.asarray(logits, np.float64)) <= state["threshold"][0] + 1e-12


def conformal(
    classes: int,
    *,
    coverage: Annotated[float, Field(ge=0.5, le=0.999)] = 0.9,
    score: Literal["lac", "aps"] = "lac",
    cells: Annotated[int, Field(ge=10, le=1000)] = 100,
    least: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Conformal:
    """Say the set of classes that holds the true one for a share `coverage` of new patients like those held out; one round.

    Cells make sets larger, never smaller: the threshold is the upper edge of its cell, and patients of cells with few are counted higher than
    they lie. The fit states the bounds of the coverage that follow. They hold for patients like the held-out ones of all sites together, not
    for each site or class.

    Parameters
    ----------
    classes : int
        Of the experiment.
    coverage : float
        Share of patients whose true class the set shall hold.
    score : str
        ``lac`` (least ambiguous sets: smallest on average) or ``aps`` (adaptive: larger for difficult patients; not randomised, so it
        covers more than it must).
    cells : int
        Of the histogram over 0..1.
    least : int
        Patients that a cell of a site holds at least; not below the site's own policy.

    Examples
    --------
    >>> fit, rng = conformal(3), np.random.default_rng(0)
    >>> logits = rng.normal(size=(3000, 3)) * 2
    >>> y = np.array([rng.choice(3, p=row) for row in np.exp(logits) / np.exp(logits).sum(1, keepdims=True)])
    >>> parts = [fit.contribution({}, logits[i:2000:4], y[i:2000:4], seed=0) for i in range(4)]
    >>> state = fit.combine(fit.start(3), parts, [])
    >>> bool(abs(fit.sets(state, logits[2000:])[np.arange(1000), y[2000:]].mean() - 0.9) < 0.03)
    True
    """
    return Conformal(classes, coverage, score, cells, least)


SPEC = CalibrationSpec(
    conformal,
    reads="logits",
    held_out=(True,),
    cells="cells",
    source="Sadinle, Lei & Wasserman, Least ambiguous set-valued classifiers, JASA 2019 (lac); Romano, Sesia & Candes, NeurIPS 2020 (aps)",
)
