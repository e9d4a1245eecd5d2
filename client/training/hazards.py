"""What a network's outputs say: probabilities of classes, or of survival risks at the horizons, from the hazards of intervals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from shared_models.experiment import Data
from shared_models.survival.hazards import START_LOGIT, risks_at


def said_of(data: Data) -> Callable[[Tensor], Tensor]:
    """Return what makes probabilities (n, classes), risks (n, horizons) or a probability of each finding of logits, float64."""
    if data.target == "findings":
        return torch.sigmoid
    return partial(risks, data=data) if data.target == "survival" else partial(torch.softmax, dim=1)


def risks(logits: Tensor, *, data: Data) -> Tensor:
    """Return P(event by each horizon), shape (n, horizons), from logits of the hazards, shape (n, intervals): it never falls with the horizon.

    The logits are a network's outputs above `START_LOGIT`; those of diagnoses, which follow, are not read.

    Examples
    --------
    >>> data = Data.model_validate({"target": "survival", "horizons": [0.5, 1.0]})
    >>> risks(torch.full((1, 2), 3.0).double(), data=data).tolist(), risks(torch.zeros(1, 2).double(), data=data).numpy().round(3).tolist()
    ([[0.5, 0.75]], [[0.047, 0.093]])
    """
    hazards = torch.sigmoid(logits[:, : len(data.intervals)] + START_LOGIT)
    return torch.from_numpy(risks_at(hazards.cpu().numpy(), data.intervals, data.horizons))


def diagnoses_of(logits: Tensor, *, data: Data) -> Tensor:
    """Return the probability of each of ``data.diagnoses``, shape (n, diagnoses), which the outputs after the hazards say."""
    return torch.softmax(logits[:, len(data.intervals) :], dim=1)
