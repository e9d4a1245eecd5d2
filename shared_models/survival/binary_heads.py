"""One binary head a horizon, weighted for those who left: the other way of learning risks at horizons than by hazards (`hazards`).

The heads share one ladder: the outputs are logits of the risk between one horizon and the next, so a stated risk never falls with the horizon, and
what reads risks off hazards reads them off these heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.survival.censoring import Staying
from shared_models.survival.hazards import START_LOGIT, diagnosis_loss
from shared_models.survival.horizon import EVENT, horizon_weights

if TYPE_CHECKING:
    from torch import Tensor


def horizon_logits(logits: Tensor) -> Tensor:
    """Return the logit of P(event by each horizon), shape (n, horizons), from logits of the risks between horizons: it never falls.

    Examples
    --------
    >>> import torch
    >>> torch.sigmoid(horizon_logits(torch.zeros(1, 2, dtype=torch.float64))).numpy().round(6).tolist()
    [[0.5, 0.75]]
    """
    import torch
    from torch.nn.functional import logsigmoid

    surviving = logsigmoid(-logits).cumsum(1)
    # ln P = ln(1 - e^s), with P of 1e-7 at least: below it the logarithm has no slope that single precision could follow
    return torch.log(-torch.expm1(surviving.clamp(max=-1e-7))) - surviving


def binary_head_loss(logits: Tensor, labels: Tensor, weights: Tensor, events: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy of each patient, mean over horizons, shape (n,).

    Parameters
    ----------
    logits : Tensor, shape (n, horizons)
        Of the risks between one horizon and the next.
    labels, weights : Tensor, shape (n, horizons)
        As `censoring.horizon_weights`.
    events : Tensor, shape (2, horizons)
        Factors on those alive and on events; `event_weights` says how the stated risks stay what they are.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> round(binary_head_loss(torch.zeros(1, 1), one, 2 * one, torch.ones(2, 1)).item(), 4)  # 2 ln 2
    1.3863
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    shifted = horizon_logits(logits) + (events[1] / events[0]).log()
    wanted = (labels == EVENT).to(logits.dtype)
    each = binary_cross_entropy_with_logits(shifted, wanted, reduction="none")
    return (weights * (events[1] * wanted + events[0] * (1 - wanted)) * each).mean(1)


@dataclass(frozen=True)
class BinaryHeads:
    """The objective of a network with one output a horizon, above `START_LOGIT`, and after them those of `diagnoses` classes.

    Parameters
    ----------
    horizons : tuple of float
        Rising.
    diagnoses : int
        Classes of a second head.
    staying : Staying, optional
        Who is followed how long; training and judging supply it, for without it nobody knows what a patient counts.
    events : tuple of two tuples of float
        Factors at each horizon on those alive, and on events; empty: 1.
    """

    horizons: tuple[float, ...]
    diagnoses: int = 0
    staying: Staying | None = None
    events: tuple[tuple[float, ...], ...] = ()

    def __call__(self, output: Tensor, batch: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each record, shape (n,), from targets of time and event (n, 2), with diagnoses their number, too; no batch is read.

        Raises
        ------
        BadInput
            Nobody has said who is followed how long.
        """
        del batch
        import torch

        if self.staying is None:
            raise BadInput("binary heads weigh patients by who is followed how long", remedy="train with it: client/training/follow_up_weights")
        known = targets[:, :2].detach().cpu().numpy()
        found = horizon_weights(known[:, 0].astype(np.float64), known[:, 1], self.horizons, self.staying)
        labels, weights = (torch.from_numpy(part).to(output.device, output.dtype) for part in found)
        factors = torch.tensor(self.events or ((1.0,) * len(self.horizons),) * 2, dtype=output.dtype, device=output.device)
        losses = binary_head_loss(output[:, : len(self.horizons)] + START_LOGIT, labels, weights, factors)
        return losses + diagnosis_loss(output[:, len(self.horizons) :], targets) if self.diagnoses else losses


def reached(horizons: Sequence[float], curve: Staying) -> list[float]:
    """Return the horizons up to which somebody is followed.

    Examples
    --------
    >>> reached([1.0, 5.0], Staying(np.array([2.0]), np.array([0.0])))
    [1.0]
    """
    return [horizon for horizon, share in zip(horizons, curve.at(np.asarray(horizons, np.float64)), strict=True) if share > 0]
