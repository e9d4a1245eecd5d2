"""Intensity standardisation of images: landmarks of the lung histogram over the federation."""

from __future__ import annotations

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.harmonisation.landmarks import BINS, HIGHEST_HU, LOWEST_HU, PERCENTILES, check, finish
from shared_models.statistics.spec import StatisticSpec


class Landmarks:
    """Percentiles of the sum of the patients' lung histograms, in HU; what a row is: one prepared study's histogram of mass 1."""

    def columns_after(self) -> tuple[str, ...]:
        """Return nothing: images have no columns."""
        return ()

    def start(self, *, seed: int) -> State:
        """Return landmarks spread evenly over the range of the histogram."""
        del seed
        return {"hu": LOWEST_HU + (HIGHEST_HU - LOWEST_HU) * np.array(PERCENTILES) / 100}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return the number of studies and their histograms `x` (n, BINS) added up."""
        del state, y, seed
        each = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
        return {"n": np.array([each.sum()]), "histogram": each @ np.asarray(x, np.float64).reshape(len(x), BINS)}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the landmarks of the summed histogram."""
        del state, weights
        return {"hu": np.array(finish([_renamed(part) for part in contributions]))}

    def check(self, contribution: State, state: State) -> None:
        """Refuse histograms that no studies can have."""
        del state
        if contribution.keys() != {"n", "histogram"}:
            raise BadState("landmarks are read from a count and a histogram", value=sorted(contribution)[:3])
        check(_renamed(contribution))

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing: each scan's own landmarks are found when it is standardised."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return `x`: landmarks change images, not rows (`client/statistics`)."""
        del state, own
        return x


def _renamed(sums: State) -> State:
    return {"patients": sums["n"], "histogram": sums["histogram"]}


def landmarks(columns: tuple[str, ...]) -> Landmarks:
    """Map each scan's percentiles of the lung histogram to those of the federation before a model sees it; one round.

    What the step ``standardise`` does with landmarks that are known beforehand.

    Parameters
    ----------
    columns : tuple of str
        Of no use: images have none.

    Examples
    --------
    >>> fit, row = landmarks(()), np.zeros((1, BINS))
    >>> row[0, 100:200] = 0.01
    >>> state = fit.combine(fit.start(seed=0), [fit.contribution({}, row, np.zeros(1, int), seed=0)], [])
    >>> state["hu"][[0, 6, 12]].tolist()
    [-896.0, -800.0, -704.0]
    """
    del columns
    return Landmarks()


SPEC = StatisticSpec(
    landmarks,
    takes="study",
    rounds=1,
    source="Nyul, Udupa & Zhang, New variants of a method of MRI scale standardization, IEEE TMI 2000; the histogram is summed over sites",
)
