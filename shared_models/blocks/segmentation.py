"""What segmentation networks share: the spec of an entry, the double convolution, padding to whole strides, and the loss of a slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_models.patterns import UNLABELLED

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SegmentationSpec:
    """One entry of `SEGMENTATION_NETWORKS`.

    Parameters
    ----------
    build : callable
        ``build(inputs, outputs, *, knobs)``: a network from slices (n, inputs, y, x) in 0..1 to logits (n, outputs, y, x); output 0 is
        background, and any y and x are taken.
    loss : callable
        ``loss(network, slices, labels) -> (n,)``, labels of int64, shape (n, y, x).
    source : str
        Paper that defines the network.
    adversary : callable or None
        ``adversary(inputs, outputs)``: the discriminator that a generator is trained against.
    """

    build: Callable[..., Any]
    loss: Callable[..., Any]
    source: str
    adversary: Callable[..., Any] | None = None


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with GroupNorm and ReLU: the block of a U-Net.

    Examples
    --------
    >>> import torch
    >>> double_convolution(1, 8)(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 8, 5, 7])
    """
    from torch import nn

    from shared_models.blocks.layers import group_norm

    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), group_norm(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def padded(slices: Tensor, stride: int) -> Tensor:
    """Return slices with rows and columns added, as copies of the last ones, until both divide by `stride`.

    Examples
    --------
    >>> import torch
    >>> padded(torch.zeros(1, 1, 5, 8), 4).shape
    torch.Size([1, 1, 8, 8])
    """
    from torch.nn import functional

    return functional.pad(slices, (0, -slices.shape[3] % stride, 0, -slices.shape[2] % stride), mode="replicate")


def overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy plus one minus the mean Dice of the classes but the first, for each record.

    A class that neither the record nor the prediction holds counts as a Dice of 1 (smoothed by 1 pixel). Pixels with the label 254 or 255 are
    not annotated: they have no part in either term, nor any gradient.

    Parameters
    ----------
    logits : Tensor, shape (n, classes, ..., y, x)
    labels : Tensor of whole numbers, shape (n, ..., y, x)

    Returns
    -------
    Tensor, shape (n,)

    Notes
    -----
    Milletari, Navab & Ahmadi, "V-Net", 3DV 2016; the sum with cross-entropy as in Isensee et al., Nature Methods 2021.

    Examples
    --------
    >>> import torch
    >>> right = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> bool(overlap_loss(right, torch.tensor([[[0, 1]]])) < 0.01 < 1 < overlap_loss(right, torch.tensor([[[1, 0]]])))
    True
    """
    from torch.nn import functional

    known = labels < UNLABELLED
    labels = labels.long() * known
    entropy = functional.cross_entropy(logits, labels, reduction="none") * known
    counts = known.flatten(1).sum(1)
    found = logits.softmax(dim=1)[:, 1:] * known[:, None]
    true = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(found.dtype) * known[:, None]
    dice = (2 * (found * true).flatten(2).sum(2) + 1) / (found.flatten(2).sum(2) + true.flatten(2).sum(2) + 1)
    return entropy.flatten(1).sum(1) / counts.clamp(min=1) + 1 - dice.mean(1)


def deep_overlap(output: Tensor | tuple[Tensor, ...], batch: Tensor, targets: Tensor) -> Tensor:
    """Return `overlap_loss` of a network's output, the mean over its heads where it gives out several (deep supervision), shape (n,).

    The objective of a `ModelSpec`: `batch` is not read.
    """
    del batch
    heads = output if isinstance(output, tuple) else (output,)
    losses = [overlap_loss(logits, targets) for logits in heads]
    return sum(losses[1:], losses[0]) / len(losses)


def slice_loss(network: nn.Module, slices: Tensor, labels: Tensor) -> Tensor:
    """Return `overlap_loss` of the network's logits, shape (n,)."""
    return overlap_loss(network(slices), labels)
