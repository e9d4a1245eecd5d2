"""How far the sites' updates lie from one another and from the global model: one pass over the spool, whatever the number of sites."""

from __future__ import annotations

import numpy as np

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
    total = np.zeros((len(spool.replies), len(spool.replies)))
    for key, part, values in spool.columns(current):
        if current[key].dtype.kind == "f":
            values -= current[key].reshape(-1)[part]
            total += values @ values.T
    return total


def norms(gram: np.ndarray) -> np.ndarray:
    """Return each site's distance from the global model, shape (sites,), from `products`."""
    return np.sqrt(np.diag(gram))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """Return ``|w_i - w_j|^2``, shape (sites, sites), from `products`; never below 0."""
    square = np.diag(gram)
    return np.maximum(square[:, None] + square[None, :] - 2 * gram, 0.0)
