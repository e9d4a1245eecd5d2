"""Training towards a network's own objective: its targets, moved along with the images, and the loss of each record that the network says.

A network whose spec names an `objective` says its own loss from what it gives out, the batch that it saw and the targets: the loss of labels,
with its class weights, smoothing and focus, is then of no matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from client.training.augment import Augmentation
from client.training.device import Precision
from client.training.records import Records
from client.training.rule import Rule
from shared_models.blocks.mean_teacher import SelfTaught
from shared_models.blocks.spec import ModelSpec

Objective = Callable[[Any, Tensor, Tensor], Tensor]


def aims_of(records: Records, chosen: Sequence[int]) -> Tensor:
    """Return what the chosen records are to be learnt as: their targets, of survival time and event (n, 2) and diagnosis (n, 3), or their labels."""
    if records.times is not None:
        known = records.outcome[chosen, :2]
        return torch.from_numpy(known if records.targets is None else np.column_stack([known, records.targets[chosen]]))
    return torch.from_numpy(np.ascontiguousarray((records.labels if records.targets is None else records.targets)[chosen]))


def augmented(
    batch: Tensor, aims: Tensor, changes: Sequence[tuple[bool, Augmentation]], generator: Generator, unit_hu: float
) -> tuple[Tensor, Tensor]:
    """Return a batch under its augmentations, and its targets moved as its pixels were.

    Parameters
    ----------
    batch : Tensor, shape (n, ..., y, x)
    aims : Tensor
        Labels (n,), outcomes (n, 2 or 3) or findings (n, k), which stay, or targets (n, ..., y, x).
    changes : sequence of (bool, callable)
        Whether an augmentation moves pixels, and the augmentation.
    generator : torch.Generator
        Of the round.
    unit_hu : float
        Hounsfield units that one unit of the values is worth.
    """
    for moves, change in changes:
        drawn = generator.get_state()
        batch = change(batch, generator, unit_hu)
        if moves and aims.ndim > 2:  # of images; a row of findings has no pixels
            again = torch.Generator()
            again.set_state(drawn)
            aims = change(aims, again, unit_hu)
    return batch, aims


def own_losses(spec: ModelSpec, network: nn.Module, batch: Tensor, aims: Tensor, *, rule: Rule, precision: Precision) -> Tensor:
    """Return the loss of each record that the network says itself, and what the strategy adds to it, shape (n,)."""
    objective = spec.objective
    if objective is None:
        raise ValueError("this network has no objective")
    with precision.forward(), rule.watching(network):
        output = network.losses(batch, aims) if isinstance(network, SelfTaught) and network.training else network(batch)
    if isinstance(network, SelfTaught) and network.training:
        return rule.loss(lambda given, truth: given)(output, aims)
    return rule.loss(lambda given, truth: objective(given, batch, truth))(in_full(output), aims)


def in_full(output: Any) -> Any:
    """Return what a network gave out with its floating-point numbers in 32 bits.

    Examples
    --------
    >>> in_full((torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bool)))
    (tensor([0.]), tensor([False]))
    """
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    return tuple(in_full(part) for part in output)
