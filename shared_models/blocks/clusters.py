"""K-means and fuzzy c-means as sums that add over sites: members, totals and spread of each cluster, and the centres that follow from them."""

from __future__ import annotations

import numpy as np

from shared_models.blocks.fuzzy import shares_of
from shared_models.core.arrays import State


def squared_distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared distance of every row of x (n, columns) to every centre (clusters, columns), shape (clusters, n)."""
    return np.square(x[None] - centres[:, None]).sum(2)


def cluster_sums(x: np.ndarray, centres: np.ndarray, *, fuzzifier: float | None = None) -> State:
    """Return what one step needs of one site.

    Parameters
    ----------
    x : ndarray, shape (n, columns)
        Rows.
    centres : ndarray, shape (clusters, columns)
        Centres so far.
    fuzzifier : float, optional
        Exponent m of the memberships (Bezdek 1981); without it every row belongs wholly to its nearest centre (Lloyd 1982).

    Returns
    -------
    dict
        `members` ``sum_k u_ik^m``, `totals` ``sum_k u_ik^m x_k`` and `spread` ``sum_k u_ik^m |x_k - v_i|^2`` of each cluster.

    Examples
    --------
    >>> sums = cluster_sums(np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [8.0]]))
    >>> sums["members"].tolist(), sums["totals"].ravel().tolist(), sums["spread"].tolist()
    ([2.0, 1.0], [1.0, 9.0], [1.0, 1.0])
    """
    squared = squared_distances(x, centres)
    if fuzzifier is None:
        share = (np.arange(len(centres))[:, None] == squared.argmin(0)).astype(np.float64)
    else:
        share = shares_of(squared, fuzzifier) ** fuzzifier
    return {"members": share.sum(1), "totals": share @ x, "spread": (share * squared).sum(1)}


def first_centres(clusters: int, columns: int, seed: int) -> np.ndarray:
    """Return centres to start from, drawn from a normal distribution: of standardised columns, and of no patient."""
    return np.random.default_rng(seed).normal(0, 1, (clusters, columns))


def next_centres(centres: np.ndarray, total: State) -> np.ndarray:
    """Return the weighted means; a centre that nobody is near to goes beside the one with the widest cluster, which it halves.

    Examples
    --------
    >>> total = {"members": np.array([4.0, 0.0]), "totals": np.array([[8.0], [0.0]]), "spread": np.array([4.0, 0.0])}
    >>> next_centres(np.array([[0.0], [99.0]]), total).ravel().tolist()
    [2.0, 3.0]
    """
    members, spread = total["members"], total["spread"].copy()
    known = members > 0
    moved = np.where(known[:, None], total["totals"] / np.where(known, members, 1.0)[:, None], centres)
    for empty in np.flatnonzero(~known):
        widest = int(spread.argmax())
        if not spread[widest] > 0:
            break  # fewer different rows than centres
        step = np.zeros(centres.shape[1])
        step[int(empty) % len(step)] = np.sqrt(spread[widest] / members[widest])
        moved[empty] = moved[widest] + step
        spread[widest] /= 2
    return moved
