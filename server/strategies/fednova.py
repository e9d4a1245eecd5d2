"""Federated averaging that is fair to sites of unequal numbers of steps."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from server.strategies.blocks import by_piece
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec, site_weights
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice

STATISTICS = ("running_mean", "running_var")
"""Endings of the arrays of normalisation layers that no gradient moves: they are averaged as they are."""


def fednova(
    model: None,
    *,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    mu: Annotated[float, Field(ge=0)] = 0.0,
    lr: Annotated[float, Field(gt=0)] | None = None,
    weighting: Literal["cases", "equal"] = "cases",
) -> Strategy:
    """Average the sites' changes per step, then take the mean number of steps (Wang et al., NeurIPS 2020, equations 3 to 5).

    ``w += tau_eff sum_i p_i (w_i - w) / |a_i|`` with ``tau_eff = sum_i p_i |a_i|``, where ``|a_i|`` is how many plain steps the site's local
    steps amount to: their number for plain SGD, more with momentum, less under a proximal pull. Running statistics of normalisation layers
    are no sums of gradients: they, and counters, are averaged as in FedAvg, or a site of few steps would be scaled beyond what it measured.

    Parameters
    ----------
    momentum : float
        The sites' own, as in ``train.optimiser``.
    mu : float
        Proximal pull at the sites, as in FedProx; needs `lr`.
    lr : float, optional
        The sites' learning rate, as in ``train.optimiser``.
    weighting : str
        As in FedAvg.

    Raises
    ------
    BadChoice
        `mu` without `lr`.

    Examples
    --------
    >>> equivalent_steps(4)
    4.0
    >>> equivalent_steps(2, momentum=0.5), equivalent_steps(2, pull=0.5)
    (2.5, 1.5)
    """
    del model
    if mu and lr is None:
        raise BadChoice("fednova's mu needs lr: the pull of a step is their product", remedy="strategy.lr = the sites' own learning rate")

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        weights = np.array(site_weights(spool, weighting)) / sum(site_weights(spool, weighting))
        taken = np.array([equivalent_steps(reply.steps, momentum=momentum, pull=mu * (lr or 0.0) * spool.factor) for reply in spool.replies])
        reach = float((weights * taken).sum() * (weights / taken).sum())
        moved = {key for key, value in current.items() if value.dtype.kind == "f" and not key.endswith(STATISTICS)}
        result, *averaged = spool.weighted_means(current, [weights / taken, weights][: 1 + (moved != current.keys())])
        for key, value in current.items():
            if key in moved:
                for now, old in by_piece(result[key], value):
                    now[:] = old + reach * (now.astype(np.float64) - old)
            else:
                result[key] = averaged[0][key]
        return result, own

    return Strategy(aggregate, rule={"name": "fedprox", "mu": mu} if mu else {"name": "plain"})


def equivalent_steps(steps: int, *, momentum: float = 0.0, pull: float = 0.0) -> float:
    """Return ``|a|``: the sum over `steps` local gradients of how far each one has moved the weights at the end, in plain steps.

    One gradient's share after it is ``u``, its velocity ``v``: each further step makes ``v = momentum v - pull u`` and ``u += v`` (section 3
    of the paper, with both knobs at once). No step counts as one, so that nothing is divided by 0.
    """
    if not momentum and not pull:
        return float(max(1, steps))
    total, share, velocity = 0.0, 1.0, 1.0
    for _ in range(max(1, steps)):
        total += share
        velocity = momentum * velocity - pull * share
        share += velocity
    return total


SPEC = StrategySpec(
    fednova,
    fit="gradient",
    source="Wang et al., Tackling the objective inconsistency problem in heterogeneous federated optimization, NeurIPS 2020",
)
