"""A tree on right-censored times: splits where the log-rank statistic is largest, leaves hold Nelson-Aalen cumulative hazards on agreed times."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Grown(NamedTuple):
    """Nodes of one tree, a parent before its children: `feature` -1 at a leaf, `value` (nodes, times) the cumulative hazard of a leaf, else 0."""

    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[Floats]


def nelson_aalen(times: Floats, events: Floats, grid: Floats) -> Floats:
    """Return the cumulative hazard at each time of `grid`, from the patients' own times.

    Source: Nelson, Technometrics 1972;14:945; Aalen, Ann Stat 1978;6:701.

    Examples
    --------
    >>> nelson_aalen(np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 1, 1]), np.array([0.5, 1, 3, 9])).tolist()
    [0.0, 0.25, 0.75, 1.75]
    """
    order = np.sort(times)
    own = np.unique(times[events == 1])
    at_risk = len(times) - np.searchsorted(order, own, side="left")
    died = np.bincount(np.searchsorted(own, times[events == 1]), minlength=len(own))
    steps = np.concatenate([[0.0], np.cumsum(died / at_risk)])
    return steps[np.searchsorted(own, grid, side="right")]


def log_rank_by_cut(column: Floats, times: Floats, events: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return an order of the patients by `column`, and for each cut of it the squared log-rank statistic of those before against those after.

    Number k stands for the cut after the first ``k + 1`` of the order; 0 where nothing is known of a cut.

    Source: Mantel, Cancer Chemother Rep 1966;50:163; splits: Ishwaran et al., Ann Appl Stat 2008;2:841.
    """
    order = np.argsort(column, kind="stable")
    t, e = times[order], events[order]
    own = np.unique(t[e == 1])
    seen = t[:, None] >= own
    at_risk = seen.sum(0).astype(np.float64)
    died = ((t[:, None] == own) & (e[:, None] == 1)).sum(0).astype(np.float64)
    share = np.cumsum(seen, 0) / at_risk
    # Events beyond what is expected of those before the cut: the sum of their event less their cumulative hazard.
    excess = np.cumsum(e - (seen * (died / at_risk)).sum(1))
    variance = (share * (1 - share)) @ (died * (at_risk - died) / np.maximum(at_risk - 1, 1))
    return order, np.divide(excess**2, variance, out=np.zeros_like(excess), where=variance > 1e-12)[:-1]


def grow(x: NDArray[np.float32], times: Floats, events: Floats, grid: Floats, *, min_leaf: int, tries: int, rng: np.random.Generator) -> Grown:
    """Return a tree over x (n, columns).

    Only leaves say anything of patients, and each of them of `min_leaf` or more.

    Parameters
    ----------
    x : ndarray of float32, shape (n, columns)
        What the splits compare: a value of at most the threshold goes left.
    times, events : ndarray, shape (n,)
        Time, and 1 for an event or 0 for last seen.
    grid : ndarray, shape (times,)
        Where cumulative hazards are read.
    min_leaf : int
        Patients that each leaf holds at least.
    tries : int
        Columns that are tried at a node.
    rng : Generator
        Draws them.
    """
    tree = Grown([], [], [], [], [])
    waiting: list[tuple[NDArray[np.int64], list[int], int]] = [(np.arange(len(x)), [], 0)]
    while waiting:
        rows, link, at = waiting.pop()
        place = len(tree.feature)
        if link:
            link[at] = place  # the parent's pointer to this child
        found = _best(x[rows], times[rows], events[rows], min_leaf=min_leaf, tries=tries, rng=rng)
        column, threshold = (-1, 0.0) if found is None else found
        tree.feature.append(column)
        tree.threshold.append(threshold)
        tree.left.append(-1)
        tree.right.append(-1)
        tree.value.append(nelson_aalen(times[rows], events[rows], grid) if found is None else np.zeros(len(grid)))
        if found is not None:
            goes_left = x[rows, column] <= threshold
            waiting += [(rows[~goes_left], tree.right, place), (rows[goes_left], tree.left, place)]
    return tree


def _best(x: NDArray[np.float32], times: Floats, events: Floats, *, min_leaf: int, tries: int, rng: np.random.Generator) -> tuple[int, float] | None:
    n = len(x)
    if n < 2 * min_leaf or not events.any():
        return None
    best, split = 0.0, None
    for column in rng.permutation(x.shape[1])[:tries]:
        order, found = log_rank_by_cut(x[:, column].astype(np.float64), times, events)
        value = x[order, column].astype(np.float64)
        before = np.arange(1, n)
        found = np.where((value[:-1] < value[1:]) & (before >= min_leaf) & (n - before >= min_leaf), found, 0.0)
        place = int(found.argmax())
        if found[place] > best and math.isfinite(found[place]):
            best, split = float(found[place]), (int(column), float(value[place] + value[place + 1]) / 2)
    return split
