"""Measures of a weighted graph: strength, clustering, closeness, betweenness and the spectrum of its Laplacian.

A graph is its matrix of weights: symmetric, 0 on the diagonal and where there is no edge, and connected. The heavier an edge, the nearer are its
ends: it is ``1 / weight`` long. Betweenness is that of currents and not of shortest paths, which jumps when two ways are about as long.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import shortest_path

from shared_models.core.errors import BadInput


def check_graph(weights: np.ndarray) -> None:
    """Refuse what is no connected graph.

    Raises
    ------
    BadInput
        Weights that are negative, not symmetric or on the diagonal, or parts without a way between them.
    """
    if weights.ndim != 2 or not np.array_equal(weights, weights.T) or np.diag(weights).any() or (weights < 0).any():
        raise BadInput("a graph is a symmetric matrix of weights of 0 or more, with an empty diagonal", value=weights.shape)
    if not np.isfinite(lengths(weights)).all():
        raise BadInput("a graph must be connected")


def lengths(weights: np.ndarray) -> np.ndarray:
    """Return the length of the shortest way between each two nodes (n, n), an edge being one over its weight long."""
    return np.asarray(shortest_path(np.divide(1.0, weights, out=np.zeros_like(weights, dtype=np.float64), where=weights > 0), directed=False))


def strength(weights: np.ndarray) -> np.ndarray:
    """Return the sum of each node's weights, shape (n,)."""
    return weights.sum(1)


def clustering(weights: np.ndarray) -> np.ndarray:
    """Return the clustering coefficient of each node (n,): the geometric mean weight of the triangles that its neighbours might make with it.

    Of a node with k neighbours ``sum_jl (w_ij w_jl w_li)^(1/3) / (k (k - 1))`` (Onnela et al., Phys Rev E 2005); 0 with fewer than two.

    Examples
    --------
    >>> clustering(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])).tolist()
    [1.0, 1.0, 1.0]
    """
    root = np.cbrt(weights)
    degree = (weights > 0).sum(1)
    return np.diag(root @ root @ root) / np.maximum(degree * (degree - 1), 1)


def closeness(weights: np.ndarray) -> np.ndarray:
    """Return one over the mean length of the shortest ways to all other nodes, shape (n,) (Freeman, Social Networks 1979)."""
    return (len(weights) - 1) / lengths(weights).sum(1)


def betweenness(weights: np.ndarray) -> np.ndarray:
    """Return the mean current through each node, over all pairs of other nodes between which a unit of it flows, shape (n,).

    Edges conduct by their weights. With ``L^+`` the pseudo-inverse of the Laplacian, the potential of node i under a unit of current from s to t is
    ``L^+_is - L^+_it``, and half of the absolute currents over its edges flows through it (Newman, Social Networks 2005; Brandes & Fleischer,
    STACS 2005).

    Examples
    --------
    >>> path = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> betweenness(path).round(9).tolist()
    [0.0, 1.0, 0.0]
    """
    n = len(weights)
    inverse = np.linalg.pinv(np.diag(weights.sum(1)) - weights, hermitian=True)
    sources, sinks = np.triu_indices(n, 1)
    potential = inverse[:, sources] - inverse[:, sinks]
    through = np.zeros(n)
    for node in range(n):
        others = (sources != node) & (sinks != node)
        through[node] = (weights[node] @ np.abs(potential[node] - potential)[:, others]).sum() / 2
    return through / max((n - 1) * (n - 2) / 2, 1)


def spectrum(weights: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` smallest eigenvalues of the Laplacian but for the 0 that every graph has, rising, shape (count,).

    Examples
    --------
    >>> spectrum(np.ones((4, 4)) - np.eye(4), 3).round(9).tolist()
    [4.0, 4.0, 4.0]
    """
    return np.linalg.eigvalsh(np.diag(weights.sum(1)) - weights)[1 : count + 1]
