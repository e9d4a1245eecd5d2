"""Federated averaging that is fair to the site that does worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from server.strategies.distances import norms, products
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy, StrategySpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState

LOSS = "received_loss"
"""The metric that every update brings: the loss of the received state on the site's training patients."""


def qfedavg(model: None, *, q: Annotated[float, Field(ge=0, le=100)] = 1.0, lr: Annotated[float, Field(gt=0)] = 0.1) -> Strategy:
    """Weigh the sites by their loss to the power `q`: minimise ``sum_i F_i^(q+1) / (q+1)`` (Li et al., ICLR 2020, algorithm 2).

    ``w -= sum_i F_i^q D_i / sum_i (q F_i^(q-1) |D_i|^2 + L F_i^q)`` with ``D_i = L (w - w_i)`` and ``L = 1 / lr``; every site has one vote.
    Each update brings ``F_i``, the site's loss at the received state on its training patients; hospitals must let ``received_loss`` leave.
    Counters are averaged as they are.

    Parameters
    ----------
    q : float
        0 is the plain mean with one vote a site; the larger, the more the worst site counts.
    lr : float
        The sites' own learning rate, as in ``train.optimiser``: with it the length of a server step follows, and is tuned no more.

    Examples
    --------
    >>> qfedavg(None).needs
    ('received_loss',)
    """
    del model

    def aggregate(current: State, own: State, spool: Spool) -> tuple[State, State]:
        losses = np.array([_loss(reply.metrics) for reply in spool.replies])
        steepness = 1.0 / (lr * spool.factor)
        # Both sums are divided by the largest loss to the power q: a large q neither overflows nor vanishes.
        scale = float(losses.max())
        if not scale > 0:
            return dict(current), own
        relative = losses / scale
        weights = relative**q
        lengths = norms(products(current, spool)) if q else np.zeros(len(losses))
        # A site without loss has nothing to learn: its change is 0 and damps nothing.
        bend = np.where(losses > 0, q * np.power(np.maximum(relative, 1e-300), q - 1) / scale, 0.0) * steepness * lengths**2
        share = float(weights.sum() / (weights + bend).sum())
        mean = spool.weighted_mean(current, list(weights))
        for key, value in current.items():
            if value.dtype.kind == "f":
                mean[key] = (value + share * (mean[key].astype(np.float64) - value)).astype(value.dtype)
        return mean, own

    return Strategy(aggregate, rule={"name": "received_loss"}, needs=(LOSS,))


def _loss(metrics: Mapping[str, float]) -> float:
    found = metrics.get(LOSS)
    if found is None or not found >= 0:
        raise BadState(f"an update must bring {LOSS}", value=found)
    return float(found)


SPEC = StrategySpec(qfedavg, fit="gradient", source="Li et al., Fair resource allocation in federated learning, ICLR 2020")
