"""Trees that are grown level by level from summed histograms, all classes at once, in arrays of one size.

A tree of depth d has ``2^(d + 1) - 1`` places: the children of place i are ``2 i + 1`` and ``2 i + 2``. `feature` is -1 where no split is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Trees(NamedTuple):
    """Trees of one shape: `feature` int32, `threshold` and `value` float64, each (..., places). A value below the threshold goes left."""

    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray

    @staticmethod
    def empty(*shape: int, depth: int) -> Trees:
        """Return trees without a split that say 0."""
        places = (*shape, 2 ** (depth + 1) - 1)
        return Trees(np.full(places, -1, np.int32), np.zeros(places), np.zeros(places))

    @property
    def depth(self) -> int:
        """Levels of splits."""
        return int(np.log2(self.feature.shape[-1] + 1)) - 1

    def places(self, x: np.ndarray) -> np.ndarray:
        """Return where each row of x (n, columns) ends in each of flat trees (trees, places), shape (trees, n).

        Examples
        --------
        >>> one = Trees(np.array([[1, -1, -1]]), np.array([[0.5, 0, 0]]), np.zeros((1, 3)))
        >>> one.places(np.array([[9.0, 0.4], [9.0, 0.5]])).tolist()
        [[1, 2]]
        """
        trees, rows = np.arange(len(self.feature))[:, None], np.arange(len(x))
        place = np.zeros((len(self.feature), len(x)), int)
        for _ in range(self.depth):
            column = self.feature[trees, place]
            right = x[rows, np.maximum(column, 0)] >= self.threshold[trees, place]
            place = np.where(column >= 0, 2 * place + 1 + right, place)
        return place

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Return the sum of the values where each row of x ends in trees (rounds, classes, places), shape (n, classes)."""
        rounds, classes, size = self.feature.shape
        flat = Trees(*(part.reshape(rounds * classes, size) for part in self))
        found = flat.value[np.arange(rounds * classes)[:, None], flat.places(x)]
        return found.reshape(rounds, classes, len(x)).sum(0).T


def level_histograms(place: np.ndarray, bins: np.ndarray, parts: list[np.ndarray], *, level: int, width: int) -> list[np.ndarray]:
    """Return the sums of each of `parts` by node of a level, column and bin, shape (classes, nodes, columns, width).

    Parameters
    ----------
    place : ndarray of int, shape (classes, n)
        Where each patient is in the tree of each class.
    bins : ndarray of int, shape (n, columns)
        Bin of each value.
    parts : list of ndarray, each of shape (classes, n)
        What is summed. Multiples of a power of two add without rounding, in any order.
    level : int
        Level whose nodes are meant, the root being level 0; patients who ended above are not counted.
    width : int
        Bins of a column.
    """
    classes, columns, nodes = len(place), bins.shape[1], 2**level
    first = nodes - 1
    out = [np.zeros((classes, nodes, columns, width)) for _ in parts]
    for number in range(classes):
        here = np.flatnonzero((place[number] >= first) & (place[number] < first + nodes))
        node = place[number, here] - first
        cell = (node[:, None] * columns + np.arange(columns)) * width + bins[here]
        for found, part in zip(out, parts, strict=True):
            weight = np.broadcast_to(part[number, here, None], cell.shape)
            found[number] = np.bincount(cell.ravel(), weight.ravel(), minlength=nodes * columns * width).reshape(nodes, columns, width)
    return out


class Split(NamedTuple):
    """The best split of a node: column, bin (that and all below go left), and what it gains; no split where it gains nothing."""

    column: int
    bin: int
    gain: float
    left: float
    right: float


def best_split(slope: np.ndarray, bend: np.ndarray, count: np.ndarray, *, penalty: float, least: int) -> Split | None:
    """Return the split of a node that lowers the penalised second-order loss most, the first of equals; None where none does.

    The gain is ``L^2 / (H_L + penalty) + R^2 / (H_R + penalty) - G^2 / (H + penalty)`` for the sums of slopes L, R and bends H left and right.

    Parameters
    ----------
    slope, bend, count : ndarray, shape (columns, bins)
        Sums of first and second derivatives, and patients.
    penalty : float
        On the square of a leaf's value.
    least : int
        Patients that each side must have.

    Notes
    -----
    Chen & Guestrin, KDD 2016, equation 7.

    Examples
    --------
    >>> best_split(np.array([[2.0, 2.0, -4.0]]), np.ones((1, 3)), np.full((1, 3), 5.0), penalty=1.0, least=5)
    Split(column=0, bin=1, gain=13.333333333333332, left=-1.3333333333333333, right=2.0)
    """
    below = [np.cumsum(part, axis=1)[:, :-1] for part in (slope, bend, count)]
    whole = [part.sum(1, keepdims=True) for part in (slope, bend, count)]
    above = [total - part for total, part in zip(whole, below, strict=True)]
    gain = sum(g**2 / (h + penalty) for g, h, _ in (below, above)) - whole[0] ** 2 / (whole[1] + penalty)
    allowed = (below[2] >= least) & (above[2] >= least)
    gain = np.where(allowed, gain, -np.inf)
    column, place = np.unravel_index(int(gain.argmax()), gain.shape)
    if not gain[column, place] > 1e-9:
        return None
    left, right = (float(-part[0][column, place] / (part[1][column, place] + penalty)) for part in (below, above))
    return Split(int(column), int(place), float(gain[column, place]), left, right)
