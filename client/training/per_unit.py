"""The gradient of every unit by itself, clipped: GRAD_SAMPLERS finds the sum of clipped gradients in different ways, to the same numbers.

A unit is a patient with all records, or a record. Its gradient is that of the mean loss over its records; it is scaled down to the length
`clip` as one vector over all weights (Abadi et al., Deep learning with differential privacy, CCS 2016, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.training.device import Precision
from shared_models.core.errors import BadChoice

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, classes) and labels (n,) to the loss of each record, (n,)."""


@dataclass(frozen=True)
class Padded:
    """Units side by side, each with as many records as the largest has.

    Parameters
    ----------
    inputs : Tensor
        (units, records, ...).
    labels : Tensor of int64
        (units, records).
    shares : Tensor
        (units, records): one over the unit's number of records, 0 where a row is only filled up.
    """

    inputs: Tensor
    labels: Tensor
    shares: Tensor

    def part(self, units: slice) -> Padded:
        """Return some of the units."""
        return Padded(self.inputs[units], self.labels[units], self.shares[units])


def pad(inputs: Tensor, labels: Tensor, counts: list[int]) -> Padded:
    """Return units of `counts` consecutive records each, filled up with each unit's own first record.

    Examples
    --------
    >>> padded = pad(torch.arange(3.0)[:, None], torch.tensor([0, 1, 1]), [1, 2])
    >>> padded.inputs[:, :, 0].tolist(), padded.shares.tolist()
    ([[0.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.5, 0.5]])
    """
    count = torch.tensor(counts)
    place = torch.arange(int(count.max()))
    real = place < count[:, None]
    rows = (count.cumsum(0) - count)[:, None] + torch.where(real, place, 0)
    return Padded(inputs[rows], labels[rows], (real / count[:, None]).to(inputs.device))


def loop(model: nn.Module, loss_of: Loss, units: Padded, clip: float, precision: Precision) -> Tensor:
    """Take one unit after another: the slow obvious way, with the memory of one unit, and fast where one unit is work enough."""
    weights = list(model.parameters())
    total = torch.zeros(sum(weight.numel() for weight in weights), dtype=weights[0].dtype, device=weights[0].device)
    for inputs, labels, shares in zip(units.inputs, units.labels, units.shares, strict=True):
        real = shares > 0
        with precision.forward():
            logits = model(inputs[real])
        slopes = torch.autograd.grad(loss_of(logits.float(), labels[real]).mean(), weights, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([slope.reshape(-1) for slope in slopes])
        total += shorten(gradient[None], gradient.norm()[None], clip)
    return total


def functorch(model: nn.Module, loss_of: Loss, units: Padded, clip: float, precision: Precision) -> Tensor:
    """Take all units at once by PyTorch's function transforms: one copy of the gradient a unit is in memory."""
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], inputs: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
        with precision.forward():
            logits = functional_call(model, (weights, buffers), (inputs,))
        return (loss_of(logits.float(), labels) * shares).sum()

    slopes = vmap(grad(loss), in_dims=(None, 0, 0, 0), randomness="different")(weights, units.inputs, units.labels, units.shares)
    lengths = torch.stack([slope.flatten(1).norm(dim=1) for slope in slopes.values()]).norm(dim=0)
    return torch.cat([shorten(slope.flatten(1), lengths, clip) for slope in slopes.values()])


def shorten(gradients: Tensor, lengths: Tensor, clip: float) -> Tensor:
    """Return the sum of gradients (units, n), each scaled to at most `clip`; a unit whose gradient is not finite adds nothing.

    Parameters
    ----------
    gradients : Tensor
        (units, n): all weights of each unit, or some of them.
    lengths : Tensor
        (units,): the length of each unit's gradient over all weights.
    clip : float
        The longest that remains.

    Examples
    --------
    >>> gradients = torch.tensor([[3.0, 4.0], [0.3, 0.4], [torch.nan, 1.0]])
    >>> [round(float(x), 4) for x in shorten(gradients, gradients.norm(dim=1), 1.0)]
    [0.9, 1.2]
    """
    factors = torch.where(lengths.isfinite(), (clip / lengths.clamp(min=1e-12)).clamp(max=1.0), 0.0)
    if not bool(lengths.isfinite().all()):
        gradients = gradients.nan_to_num(0.0, 0.0, 0.0)
    return factors @ gradients


GRAD_SAMPLERS: dict[str, Callable[[nn.Module, Loss, Padded, float, Precision], Tensor]] = {"loop": loop, "functorch": functorch}


def sampler_for(choice: str, takes: str, device: torch.device) -> str:
    """Return a name of GRAD_SAMPLERS. ``auto`` takes bags of slices one by one on a processor, where a bag is work enough.

    Measured by `make bench-privacy`.
    """
    if choice != "auto":
        return choice
    return "loop" if takes == "slices" and device.type == "cpu" else "functorch"


def refuse_shared_statistics(model: nn.Module) -> None:
    """Refuse a network that mixes patients or keeps statistics of them.

    Raises
    ------
    BadChoice
        A BatchNorm, or anything else in the network's state that is no weight.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise BadChoice(
                "a layer must not mix patients under privacy",
                value=f"{name}: {type(layer).__name__}",
                remedy='set model.norm = "group"; of a network of your own, shared_models.blocks.layers.without_batch_norm replaces every BatchNorm',
            )
    if kept := sorted(model.state_dict().keys() - dict(model.named_parameters()).keys()):
        raise BadChoice("a network under privacy keeps nothing but weights", value=kept[:3], remedy="GroupNorm and LayerNorm keep no statistics")
