"""The point that is nearest to all sites."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.distances import products, squared_distances
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, site_weights
from shared_models.core.arrays import State


def geometric_median(
    model: None,
    *,
    smoothing: Annotated[float, Field(gt=0)] = 1e-6,
    iterations: Annotated[int, Field(ge=1, le=1000)] = 100,
    weighting: Literal["cases", "equal"] = "equal",
) -> Strategy:
    """Take the point of the smallest weighted sum of distances to the sites, by smoothed Weiszfeld steps (Pillutla et al., 2022, algorithm 2).

    Every step weighs a site by ``p_i / max(smoothing, |z - w_i|)``. All of them stay among the sites' own weights, so that distances follow
    from the products of the sites' changes: the updates are read twice, however many steps there are.

    Parameters
    ----------
    smoothing : float
        Least distance, in the unit of the weights.
    iterations : int
        Most steps; they end when the mixture stands still.
    weighting : str
        ``equal`` gives every site one vote; under ``cases`` a site that exaggerates its patients gains influence.
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        apart = squared_distances(products(current, spool))
        votes = np.array(site_weights(spool, weighting))
        return spool.weighted_mean(current, weiszfeld(apart, votes / votes.sum(), smoothing=smoothing, iterations=iterations)), own

    return Strategy(aggregate)


def weiszfeld(apart: np.ndarray, votes: np.ndarray, *, smoothing: float, iterations: int) -> np.ndarray:
    """Return the shares (sites,), summing to 1, with which the sites mix to their geometric median.

    Parameters
    ----------
    apart : ndarray
        Squared distances of the sites, shape (sites, sites).
    votes : ndarray
        Weight of each site, summing to 1.

    Examples
    --------
    >>> far = np.array([[0.0, 0.01, 100.0], [0.01, 0.0, 99.0], [100.0, 99.0, 0.0]])  # two sites side by side, one far away
    >>> bool(weiszfeld(far, np.ones(3) / 3, smoothing=1e-6, iterations=100)[2] < 0.01)
    True
    """
    shares = votes
    for _ in range(iterations):
        # |sum_j s_j w_j - w_i|^2 = sum_j s_j d_ij - sum_jk s_j s_k d_jk / 2 for shares that sum to 1
        distance = np.sqrt(np.maximum(apart @ shares - 0.5 * shares @ apart @ shares, 0.0))
        following = votes / np.maximum(distance, smoothing)
        following /= following.sum()
        still = np.abs(following - shares).max() < 1e-12
        shares = following
        if still:
            break
    return shares


SPEC = StrategySpec(
    geometric_median,
    fit="gradient",
    source="Pillutla et al., Robust aggregation for federated learning, IEEE Transactions on Signal Processing 2022",
    least=lambda knobs: 3,
)
