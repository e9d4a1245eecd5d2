"""Edges of bins from counts that add over sites: a grid around the pooled mean, then the grid cells that hold equal shares of patients.

Edges must be the same bits whoever sums: the grid lies on multiples of a power of two, so that rounding of the sums moves no edge and every
value falls into the same cell everywhere.
"""

from __future__ import annotations

import numpy as np

CELLS = 256
"""Cells of the grid over some eight standard deviations; the first and the last also hold what lies beyond."""

OFFSET = 0.381966
"""Keeps whole and half means, which tables are full of, away from where the grid would jump."""


def grid_of(mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower end and the width of the cells of each column, both exact in binary.

    Examples
    --------
    >>> low, width = grid_of(np.array([100.0]), np.array([16.0]))
    >>> low.tolist(), width.tolist()
    ([-28.0], [1.0])
    """
    width = np.exp2(np.ceil(np.log2(scale * (8.66 / CELLS))))
    return (np.floor(mean / width + OFFSET) - CELLS // 2) * width, width


def cell_counts(x: np.ndarray, low: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return how many rows of x (n, columns) fall into each cell, shape (columns, CELLS).

    Examples
    --------
    >>> cell_counts(np.array([[0.5], [1.5], [1.6], [999.0]]), np.zeros(1), np.ones(1))[0, [0, 1, -1]].tolist()
    [1.0, 2.0, 1.0]
    """
    cell = np.clip(np.floor((x - low) / width), 0, CELLS - 1).astype(int)
    columns = x.shape[1]
    flat = np.bincount((cell + CELLS * np.arange(columns)).ravel(), minlength=columns * CELLS)
    return flat.reshape(columns, CELLS).astype(np.float64)


def edges_of(counts: np.ndarray, low: np.ndarray, width: np.ndarray, bins: int) -> np.ndarray:
    """Return the upper edges of all bins but the last, shape (columns, bins - 1): each bin has its share of the patients, as far as cells allow.

    Edges that fall together leave empty bins between them. A value on an edge belongs to the bin above.

    Examples
    --------
    >>> counts = np.zeros((1, CELLS))
    >>> counts[0, [2, 4, 9, 11]] = 5
    >>> edges_of(counts, np.zeros(1), np.ones(1), 4).tolist()
    [[3.0, 5.0, 10.0]]
    """
    below = np.cumsum(counts, axis=1)
    wanted = below[:, -1:] * np.arange(1, bins) / bins
    cell = np.stack([np.searchsorted(row, share) for row, share in zip(below, wanted, strict=True)])
    return low[:, None] + width[:, None] * (np.minimum(cell, CELLS - 1) + 1)


def bins_of(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of every value of x (n, columns), counted from 0."""
    return np.stack([np.searchsorted(edge, column, side="right") for edge, column in zip(edges, x.T, strict=True)], axis=1)
