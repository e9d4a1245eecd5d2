"""Survival in intervals: a network's outputs are hazards, its risks at all horizons come from them and rise with time by construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor


START_LOGIT = -3.0
"""Added to a network's outputs: one that knows nothing states a hazard of 5 % an interval, not one half, and need not first unlearn it."""


def interval_of(times: NDArray[np.float64], edges: Sequence[float]) -> NDArray[np.int64]:
    """Return the number of the interval that each time lies in: ``edges[b-1] < t <= edges[b]``; beyond the last edge ``len(edges)``.

    Examples
    --------
    >>> interval_of(np.array([0.0, 0.5, 1.0, 1.2, 9.0]), [1.0, 2.0]).tolist()
    [0, 0, 0, 1, 2]
    """
    return np.searchsorted(np.asarray(edges, np.float64), times, side="left").astype(np.int64)


def hazard_loss(logits: Tensor, times: Tensor, events: Tensor, edges: Sequence[float], *, factors: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Return the negative log-likelihood of each patient under hazards by interval.

    Parameters
    ----------
    logits : Tensor, shape (n, b)
        Logit of the hazard of each interval.
    times, events : Tensor, shape (n,)
        Time, and 1 for an event or 0 for last seen.
    edges : sequence of float, length b
        Ends of the intervals, rising.
    factors : tuple of float
        On intervals survived, and on events.

    Returns
    -------
    Tensor, shape (n,)
        Survived intervals give ``-ln(1 - h)``, that of the event ``-ln h``. Who was last seen inside an interval counts only for those survived
        whole: it is not known whether the event came later in it. Who lives beyond the last edge survived all of them.

    Source: Gensheimer & Narasimhan, PeerJ 2019;7:e6257, equation 2.

    Examples
    --------
    >>> import torch
    >>> hazard_loss(torch.zeros(3, 2), torch.tensor([0.5, 1.5, 1.5]), torch.tensor([1.0, 1.0, 0.0]), [1.0, 2.0]).div(0.6931472).round().tolist()
    [1.0, 2.0, 1.0]
    """
    import torch
    from torch.nn.functional import logsigmoid

    ends = torch.as_tensor(edges, dtype=times.dtype, device=times.device)
    own = torch.searchsorted(ends, times.contiguous())  # the interval of the event or of the last visit
    number = torch.arange(len(edges), device=logits.device)
    # Last seen exactly at an edge: the interval that ends there was survived whole.
    whole = own + ((events == 0) & torch.isin(times, ends)).to(own.dtype)
    survived = (number < torch.where(events == 1, own, whole)[:, None]).to(logits.dtype)
    died = ((number == own[:, None]) & (events == 1)[:, None]).to(logits.dtype)
    return -(factors[0] * survived * logsigmoid(-logits) + factors[1] * died * logsigmoid(logits)).sum(1)


def diagnosis_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the diagnosis of each record, shape (n,); 0 where ``targets[:, 2]``, its number, is negative: not known.

    Examples
    --------
    >>> import torch
    >>> diagnosis_loss(torch.zeros(2, 2), torch.tensor([[1.0, 0, 1], [1, 0, -1]])).div(0.6931472).round().tolist()
    [1.0, 0.0]
    """
    from torch.nn.functional import cross_entropy

    each = cross_entropy(logits, targets[:, 2].clamp(min=0).long(), reduction="none")
    return each * (targets[:, 2] >= 0)


@dataclass(frozen=True)
class HazardObjective:
    """The objective of a network whose outputs are logits of hazards above `START_LOGIT`, and after them those of `diagnoses` classes.

    Targets are time and event (n, 2), with diagnoses also the class number (n, 3), negative where it is not known: that teaches nothing. The loss
    is `hazard_loss` plus the cross-entropy of the diagnosis. `factors` weigh survived intervals and events; the logits are shifted by the logarithm
    of their ratio before the loss, so that the network's own outputs stay logits of the true hazards (`event_weights`).
    """

    edges: tuple[float, ...]
    diagnoses: int = 0
    factors: tuple[float, float] = (1.0, 1.0)

    def __call__(self, output: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each record, shape (n,); the batch is not read."""
        del batch
        logits = output[:, : len(self.edges)] + (START_LOGIT + math.log(self.factors[1] / self.factors[0]))
        hazards = hazard_loss(logits, targets[:, 0], targets[:, 1], self.edges, factors=self.factors)
        return hazards + diagnosis_loss(output[:, len(self.edges) :], targets) if self.diagnoses else hazards


def risks_at(hazards: NDArray[np.float64], edges: Sequence[float], horizons: Sequence[float]) -> NDArray[np.float64]:
    """Return P(event by each horizon), shape (n, horizons), from hazards by interval, shape (n, b).

    A horizon inside an interval takes the part of its hazard that a constant rate gives; each horizon lies within the intervals.

    Raises
    ------
    BadInput
        A horizon past the last edge.

    Examples
    --------
    >>> risks_at(np.array([[0.5, 0.5]]), [1.0, 2.0], [1.0, 2.0]).tolist()
    [[0.5, 0.75]]
    """
    ends = np.concatenate([[0.0], np.asarray(edges, np.float64)])
    if max(horizons) > ends[-1] + 1e-12 or min(horizons) < 0:
        raise BadInput("a horizon lies within the intervals of the hazards", value=list(horizons), remedy=f"the last one ends at {ends[-1]:g}")
    surviving = np.cumsum(np.concatenate([np.zeros((len(hazards), 1)), np.log1p(-np.clip(hazards, 0, 1 - 1e-12))], 1), 1)
    return np.stack([1 - np.exp([np.interp(horizon, ends, row) for row in surviving]) for horizon in horizons], 1).reshape(len(hazards), -1)
