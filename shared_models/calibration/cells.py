"""Counts of patients by cell of a score, such as a site may send: no cell with few patients, and no score made smaller than it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def counted(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the number of scores in each cell, a cell reaching from above its lower edge up to its upper one, shape (cells,).

    Scores beyond the edges count in the first or last cell.

    Examples
    --------
    >>> counted(np.array([0.0, 0.5, 0.51, 9.0]), np.array([0.0, 0.5, 1.0])).tolist()
    [2, 2]
    """
    return np.bincount(np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, len(edges) - 2), minlength=len(edges) - 1)


def without_few(counts: np.ndarray, least: int) -> np.ndarray:
    """Return counts of which none is between 0 and `least`, with the same total: patients are moved to higher cells, never to lower ones.

    From the top cell down, one that holds too few takes what it lacks from the next lower ones; what is left over at the bottom joins the
    lowest cell that holds enough. At most ``2 (least - 1)`` patients are moved from below any threshold to above it: one cell takes across it,
    and the rest at the bottom. Fewer patients in all than `least` give no counts at all.

    Examples
    --------
    >>> without_few(np.array([9, 1, 0, 2, 0]), 5).tolist()
    [7, 0, 0, 5, 0]
    >>> without_few(np.array([2, 0, 6]), 5).tolist(), without_few(np.array([2, 0, 1]), 5).tolist()
    ([0, 0, 8], [0, 0, 0])
    """
    out = np.array(counts, np.int64)
    if out.sum() < least:
        return np.zeros_like(out)
    for cell in range(len(out) - 1, -1, -1):
        below = cell - 1
        while 0 < out[cell] < least and below >= 0:
            taken = min(least - out[cell], out[below])
            out[cell], out[below], below = out[cell] + taken, out[below] - taken, below - 1
        if 0 < out[cell] < least:  # nothing lower is left to take from
            above = cell + 1 + int(np.flatnonzero(out[cell + 1 :])[0])
            out[above], out[cell] = out[above] + out[cell], 0
    return out


@dataclass(frozen=True)
class Quantile:
    """A conformal quantile read from counts.

    Parameters
    ----------
    threshold : float
        Upper edge of the cell in which the quantile lies; infinite where there are too few patients for the coverage.
    least, most : float
        Bounds of the probability that the score of a new patient from the same patients lies at or below `threshold`.
    """

    threshold: float
    least: float
    most: float


def quantile(counts: np.ndarray, edges: np.ndarray, coverage: float, *, moved: float = 0.0) -> Quantile:
    """Return the smallest upper edge at or below which ``ceil((n + 1) coverage)`` of n patients lie.

    A new patient's rank among n + 1 is even over all of them, so the score lies at or below the k-th smallest with probability at least
    ``k / (n + 1)``; all patients of the threshold's cell, and those `moved` above it, can at most lie below it.

    Parameters
    ----------
    counts : ndarray, shape (cells,)
        Patients by cell, summed over sites.
    edges : ndarray, shape (cells + 1,)
        Of the cells.
    coverage : float
        Wanted, 0..1.
    moved : float
        Most patients whom sites counted above the threshold though their score lies below (`without_few`).

    Source: Vovk, Gammerman & Shafer 2005, proposition 2.3; Lei et al., Distribution-free predictive inference for regression, JASA 2018,
    theorem 2.2 (both bounds).

    Examples
    --------
    >>> quantile(np.array([50, 45, 4]), np.array([0.0, 0.2, 0.6, 1.0]), 0.9)
    Quantile(threshold=0.6, least=0.9, most=0.96)
    """
    n = float(counts.sum())
    rank = math.ceil((n + 1) * coverage - 1e-9)
    if rank > n:
        return Quantile(math.inf, 1.0, 1.0)
    below = np.cumsum(counts)
    cell = int(np.searchsorted(below, rank - 1e-9))
    return Quantile(float(edges[cell + 1]), rank / (n + 1), min(1.0, float(below[cell] + moved + 1) / (n + 1)))
