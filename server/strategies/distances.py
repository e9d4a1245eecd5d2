"""How far the sites' updates lie from one another and from the global model: one pass over the spool, whatever the number of sites."""

from __future__ import annotations

import numpy as np

from server.strategies.blocks import BLOCK, CACHED, Rows, pieces
from server.strategies.replies import Spool
from shared_models.core.arrays import State


def products(current: State, spool: Spool) -> np.ndarray:
    """Return ``<w_i - w, w_j - w>`` over all floating-point arrays, shape (sites, sites), summed in float64.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> spool = Spool(pathlib.Path(tempfile.mkdtemp()) / "r1")
    >>> spool.add("a", {"w": np.array([3.0, 4.0])}, num_cases=1, steps=1)
    >>> spool.add("b", {"w": np.array([0.0, 2.0])}, num_cases=1, steps=1)
    >>> products({"w": np.zeros(2)}, spool)
    array([[25.,  8.],
           [ 8.,  4.]])
    >>> spool.clear()
    """
    sites = len(spool.replies)

    def visit(rows: Rows) -> np.ndarray:
        total = np.zeros((sites, sites))
        for piece in pieces(rows.part, min(BLOCK, CACHED // sites)) if rows.run.dtype.kind == "f" else ():
            changes = rows.room("changes", sites, piece.stop - piece.start)
            np.subtract(rows.read(piece), rows.run.of(current, piece), out=changes, dtype=np.float64)
            total += changes @ changes.T
        return total

    return sum(spool.walk(current, visit), np.zeros((sites, sites)))


def norms(gram: np.ndarray) -> np.ndarray:
    """Return each site's distance from the global model, shape (sites,), from `products`."""
    return np.sqrt(np.diag(gram))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """Return ``|w_i - w_j|^2``, shape (sites, sites), from `products`; never below 0."""
    square = np.diag(gram)
    return np.maximum(square[:, None] + square[None, :] - 2 * gram, 0.0)
