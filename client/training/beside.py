"""Gradients at other weights than the network's own, for a second model that never leaves the site."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from client.training.flat import FlatModel
from client.training.micro_batch import rewind
from client.training.per_unit import Loss
from client.training.records import Records


def gradient_at(flat: FlatModel, weights: Tensor, learn: Callable[[], object]) -> Tensor:
    """Return the gradient that `learn` finds at `weights`; the network, its buffers and the random generators are then as they were."""
    own, back = flat.weights.clone(), rewind(flat.model)
    flat.weights.copy_(weights)
    try:
        learn()
        return flat.gradient.clone()
    finally:
        flat.weights.copy_(own)
        back()


def noiseless(flat: FlatModel, loss_of: Loss, records: Records, *, batch: int, seed: int, step: int) -> Callable[[Tensor], Tensor]:
    """Return the plain gradient of a batch drawn for this step alone: what a second model learns from while the network learns privately.

    It is not covered by the noise: the model that it makes stays where the patients are. Then the privacy of what leaves is untouched, and
    each patient's is kept towards everybody but the own hospital (joint differential privacy: Kearns et al., ITCS 2014; by the billboard
    lemma, Hsu et al., STOC 2014).

    Parameters
    ----------
    flat : FlatModel
        The network, whose own weights are put back.
    loss_of : callable
        Loss of each record.
    records : Records
        The site's.
    batch : int
        Records that are drawn.
    seed, step : int
        Of the round, and which step of it.
    """

    def slope(weights: Tensor) -> Tensor:
        chosen = torch.randperm(len(records), generator=torch.Generator().manual_seed((seed + step) % (1 << 63)))[:batch].numpy()
        device = flat.weights.device
        inputs = torch.from_numpy(np.ascontiguousarray(records.inputs[chosen], dtype=np.float32)).to(device)
        labels = torch.from_numpy(records.labels[chosen]).to(device)
        return gradient_at(flat, weights, lambda: flat.backward(loss_of(flat.model(inputs).float(), labels).mean()))

    return slope
