"""Centres of fuzzy c-means that all sites share: clusters of the sum of the studies' histograms of grey values."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.fuzzy import LEVELS_HU, LOWEST_HU, first_centres, fit_fuzzy
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.statistics.spec import StatisticSpec

TOLERANCE_HU, STEPS = 1e-9, 5000
"""Tighter than for one scan: the sites' order must not show."""


class FuzzyCentres:
    """Centres of the grey values of the bodies, in HU; what a row is: one prepared study's histogram of mass 1 over `LEVELS_HU`."""

    def __init__(self, clusters: int, fuzzifier: float) -> None:
        self.clusters, self.fuzzifier = clusters, fuzzifier

    def columns_after(self) -> tuple[str, ...]:
        """Return nothing: images have no columns."""
        return ()

    def start(self, *, seed: int) -> State:
        """Return centres spread evenly over the grey values."""
        del seed
        return {"hu": LOWEST_HU + (LEVELS_HU[-1] - LOWEST_HU) * (np.arange(self.clusters) + 0.5) / self.clusters}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return the number of studies and their histograms `x` (n, levels) added up."""
        del state, y, seed
        each = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
        return {"n": np.array([each.sum()]), "histogram": each @ np.asarray(x, np.float64).reshape(len(x), len(LEVELS_HU))}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the centres of the summed histogram, rising; the start is its quantiles, so nothing is random."""
        del state, weights
        total = np.sum([part["histogram"] for part in contributions], axis=0)
        if not total.sum() > 0:
            raise BadState("centres need at least one study", value=0)
        start = first_centres(total, LEVELS_HU, self.clusters)
        return {"hu": fit_fuzzy([total], LEVELS_HU, start, fuzzifier=self.fuzzifier, tolerance=TOLERANCE_HU, steps=STEPS).centres}

    def check(self, contribution: State, state: State) -> None:
        """Refuse histograms that no studies can have."""
        del state
        same_layout(contribution, {"n": np.zeros(1), "histogram": np.zeros(len(LEVELS_HU))})
        count = float(contribution["n"][0])
        if not is_finite(contribution) or (contribution["histogram"] < 0).any() or count < 0:
            raise BadState("sums of histograms must be finite and not negative")
        if abs(float(contribution["histogram"].sum()) - count) > 1e-6 * max(1.0, count):
            raise BadState("every study counts once in the histogram", value=float(contribution["histogram"].sum()))

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing: a scan has no centres of its own then."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: centres change masks, not rows (`client/statistics`)."""
        del state, own
        return x


def fuzzy_centres(
    columns: tuple[str, ...], *, clusters: Annotated[int, Field(ge=2, le=8)] = 2, fuzzifier: Annotated[float, Field(gt=1, le=5)] = 2.0
) -> FuzzyCentres:
    """Segment every scan by fuzzy c-means with the centres of all sites together before a model sees it; one round.

    What the segmenter's ``centres_hu`` does with centres that are known beforehand. The preparation's segmenter is one that clusters.

    Parameters
    ----------
    columns : tuple of str
        Of no use: images have none.
    clusters : int
        How many, as the segmenter's.
    fuzzifier : float
        Exponent m of the memberships, as the segmenter's.

    Examples
    --------
    >>> fit, row = fuzzy_centres(()), np.zeros((1, len(LEVELS_HU)))
    >>> row[0, [174, 1064]] = 0.4, 0.6
    >>> fit.combine(fit.start(seed=0), [fit.contribution({}, row, np.zeros(1, int), seed=0)], [])["hu"].tolist()
    [-850.0, 40.0]
    """
    del columns
    return FuzzyCentres(clusters, fuzzifier)


SPEC = StatisticSpec(
    fuzzy_centres,
    takes="study",
    rounds=1,
    source="Bezdek, Pattern Recognition with Fuzzy Objective Function Algorithms, 1981; the histogram is summed over sites",
)
