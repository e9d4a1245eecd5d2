"""A mean in which no site's change is longer than a bound."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.blocks import by_piece
from server.strategies.distances import norms, products
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, site_weights
from shared_models.core.arrays import State


def norm_bound(model: None, *, bound: Annotated[float, Field(gt=0)] | None = None, weighting: Literal["cases", "equal"] = "cases") -> Strategy:
    """Scale each site's change to at most `bound`, then average (Sun et al., 2019, section 4).

    ``w += sum_i p_i min(1, bound / |w_i - w|) (w_i - w)``: one hostile site then moves the model by at most its weight times the
    bound. Counters are averaged as they are.

    Parameters
    ----------
    bound : float, optional
        Largest Euclidean length of a change over all weights together; the median length of the round when not given.
    weighting : str
        As in FedAvg.
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        weights = np.array(site_weights(spool, weighting))
        weights /= weights.sum()
        lengths = norms(products(current, spool))
        longest = float(np.median(lengths)) if bound is None else bound
        bounded = weights * np.minimum(1.0, longest / np.maximum(lengths, 1e-300))
        share = float(bounded.sum())
        if not share > 0:  # more than half of the sites changed nothing, and nothing else may be more
            return dict(current), own
        counters = {key for key, value in current.items() if value.dtype.kind != "f"}
        result, *plain = spool.weighted_means(current, [bounded, weights][: 1 + bool(counters)])
        for key, value in current.items():
            if key in counters:
                result[key] = plain[0][key]
                continue
            for now, old in by_piece(result[key], value):
                now[:] = old + share * (now.astype(np.float64) - old)
        return result, own

    return Strategy(aggregate)


SPEC = StrategySpec(norm_bound, fit="gradient", source="Sun et al., Can you really backdoor federated learning?, arXiv:1911.07963")
