"""Fuzzy c-means on counted values: memberships, the sums that add over sites, and the centres that follow from them.

A grey-level image has far fewer values than voxels, so each step works on a histogram and costs nothing. The sums of a step add over parts:
sites that share their histograms' sums in each step find the very centres of the pooled images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput, BadState

Doubles = NDArray[np.float64]

LOWEST_HU, HIGHEST_HU = -1024, 200
"""Grey values of a CT that are counted; those beyond count at the end: bone is tissue, padding is air."""
LEVELS_HU = np.arange(LOWEST_HU, HIGHEST_HU + 1, dtype=np.float64)


@dataclass(frozen=True)
class FuzzySums:
    """What a step needs of the data, and all that a site shares: ``a + b`` is the sums of both.

    Parameters
    ----------
    weighted : ndarray of float64, shape (clusters,)
        ``sum_k n_k u_ik^m x_k`` of each cluster.
    total : ndarray of float64, shape (clusters,)
        ``sum_k n_k u_ik^m``.
    objective : float
        ``J = sum_i sum_k n_k u_ik^m (x_k - v_i)^2`` at the centres that the memberships come from.
    """

    weighted: Doubles
    total: Doubles
    objective: float

    def __add__(self, other: FuzzySums) -> FuzzySums:
        return FuzzySums(self.weighted + other.weighted, self.total + other.total, self.objective + other.objective)


@dataclass(frozen=True)
class FuzzyFit:
    """Centres in ascending order, and the objective before each step; it never rises."""

    centres: Doubles
    objectives: tuple[float, ...]


def memberships(values: NDArray[np.floating], centres: Doubles, *, fuzzifier: float = 2.0) -> Doubles:
    """Return ``u_ik = 1 / sum_j (d_ik / d_jk)^(2 / (m - 1))``; a value on a centre belongs to it wholly.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Grey values.
    centres : ndarray, shape (clusters,)
        Centres.
    fuzzifier : float
        Exponent m, above 1; 2 is usual.

    Returns
    -------
    ndarray of float64, shape (clusters, n)
        Each column sums to 1.

    Examples
    --------
    >>> memberships(np.array([0.0, 2.5, 10.0]), np.array([0.0, 10.0])).round(3).tolist()
    [[1.0, 0.9, 0.0], [0.0, 0.1, 1.0]]
    """
    return shares_of(np.square(np.asarray(values, np.float64)[None] - centres[:, None]), fuzzifier)


def shares_of(squared: Doubles, fuzzifier: float) -> Doubles:
    """Return the memberships (clusters, n) that follow from squared distances (clusters, n) to the centres, in any number of dimensions.

    Examples
    --------
    >>> shares_of(np.array([[0.0, 1.0], [4.0, 1.0]]), 2.0).tolist()
    [[1.0, 0.5], [0.0, 0.5]]
    """
    power = 1.0 / (fuzzifier - 1.0)
    nearest = squared.min(axis=0)
    share = np.power(nearest / np.where(squared > 0, squared, 1.0), power)  # against the nearest, so that nothing overflows
    share = np.where(nearest == 0, squared == 0, share)
    return share / share.sum(axis=0)


def fuzzy_sums(counts: NDArray[np.integer | np.floating], values: NDArray[np.floating], centres: Doubles, *, fuzzifier: float = 2.0) -> FuzzySums:
    """Return the sums of one step over a histogram.

    Parameters
    ----------
    counts : ndarray of int or float, shape (n,)
        How often each value occurs, or its weight.
    values : ndarray, shape (n,)
        The values.
    centres : ndarray, shape (clusters,)
        Centres so far.
    fuzzifier : float
        Exponent m.

    Examples
    --------
    >>> one, other = np.array([3, 0, 1]), np.array([0, 2, 2])
    >>> levels, centres = np.array([0.0, 4.0, 9.0]), np.array([1.0, 8.0])
    >>> both = fuzzy_sums(one, levels, centres) + fuzzy_sums(other, levels, centres)
    >>> bool(np.allclose(both.weighted, fuzzy_sums(one + other, levels, centres).weighted, rtol=1e-12))
    True
    """
    raised = memberships(values, centres, fuzzifier=fuzzifier) ** fuzzifier * counts
    squared = np.square(np.asarray(values, np.float64)[None] - centres[:, None])
    return FuzzySums(raised @ np.asarray(values, np.float64), raised.sum(axis=1), float((raised * squared).sum()))


def next_centres(sums: FuzzySums) -> Doubles:
    """Return the centres that minimise the objective for the memberships behind `sums`: weighted means.

    Raises
    ------
    BadState
        Sums of no voxels.
    """
    if not (np.isfinite(sums.weighted).all() and (sums.total > 0).all()):
        raise BadState("fuzzy sums must come from voxels", value=sums.total.tolist())
    return sums.weighted / sums.total


def first_centres(counts: NDArray[np.integer | np.floating], values: NDArray[np.floating], clusters: int) -> Doubles:
    """Return quantiles of a histogram as centres to start from: nothing random, so equal data give equal centres.

    A quantile does not add: sites that share the sums of each step start from centres that the experiment names instead, sites that share
    their histograms from the quantiles of the sum.

    Raises
    ------
    BadInput
        Fewer different values than clusters.

    Examples
    --------
    >>> first_centres(np.array([10, 0, 10]), np.array([-800.0, -400.0, 0.0]), 2).tolist()
    [-800.0, 0.0]
    """
    present = np.flatnonzero(np.asarray(counts) > 0)
    if len(present) < clusters:
        raise BadInput("as many clusters as different grey values at most", value=len(present), remedy="ask for fewer clusters")
    below = np.cumsum(counts)
    wanted = below[-1] * (np.arange(clusters) + 0.5) / clusters
    found = np.asarray(values, np.float64)[np.searchsorted(below, wanted)]
    if len(np.unique(found)) < clusters:  # one value holds more than a cluster's share: spread over the values instead
        found = np.asarray(values, np.float64)[present[np.linspace(0, len(present) - 1, clusters).round().astype(int)]]
    return found


def fit_fuzzy(
    parts: Sequence[NDArray[np.integer | np.floating]],
    values: NDArray[np.floating],
    start: Doubles,
    *,
    fuzzifier: float = 2.0,
    tolerance: float = 1e-4,
    steps: int = 200,
) -> FuzzyFit:
    """Fit the centres to histograms, step by step, until none moves by more than `tolerance`.

    Parameters
    ----------
    parts : sequence of ndarray of int or float, shape (n,)
        Histograms over the same values: one of an image, or one of each site.
    values : ndarray, shape (n,)
        The values.
    start : ndarray, shape (clusters,)
        Centres to start from; see `first_centres`.
    fuzzifier : float
        Exponent m.
    tolerance : float
        Largest movement at which to stop, in the unit of the values.
    steps : int
        Most steps.

    Notes
    -----
    Bezdek, Pattern Recognition with Fuzzy Objective Function Algorithms, 1981: each half of a step minimises the objective over memberships
    or over centres, so it never rises.

    Examples
    --------
    >>> fit_fuzzy([np.array([5, 5, 0, 5, 5])], np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 4.0])).centres.round(1).tolist()
    [0.5, 3.5]
    """
    centres, objectives = np.sort(np.asarray(start, np.float64)), []
    for _ in range(steps):
        sums = [fuzzy_sums(counts, values, centres, fuzzifier=fuzzifier) for counts in parts]
        total = sum(sums[1:], sums[0])
        objectives.append(total.objective)
        moved = next_centres(total)
        done = float(np.abs(moved - centres).max()) <= tolerance
        centres = moved
        if done:
            break
    return FuzzyFit(np.sort(centres), tuple(objectives))
