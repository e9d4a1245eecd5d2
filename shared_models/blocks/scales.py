"""Convolutions that look at several scales at once: the "multi-scale" of an improved U-Net++."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.channel_attention import SqueezeExcitation
from shared_models.blocks.layers import group_norm

DILATIONS = (1, 2, 3)


class Scales(nn.Module):
    """Parallel 3x3 convolutions of dilation 1, 2 and 3, joined, each channel then weighed by a gate that sees the means of all.

    Parameters
    ----------
    inputs, outputs : int
        Channels; each branch has a third of the outputs, at least 1.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        third = max(1, outputs // len(DILATIONS))
        self.branches = nn.ModuleList(nn.Conv2d(inputs, third, 3, padding=step, dilation=step, bias=False) for step in DILATIONS)
        self.join = nn.Sequential(nn.Conv2d(third * len(DILATIONS), outputs, 1, bias=False), group_norm(outputs), nn.ReLU())
        self.gate = SqueezeExcitation(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, outputs, y, x)."""
        return self.gate(self.join(torch.cat([branch(maps) for branch in self.branches], dim=1)))


def multi_scale(inputs: int, outputs: int) -> nn.Sequential:
    """Return a block of a U-Net in which both convolutions look at three scales.

    Examples
    --------
    >>> multi_scale(1, 8)(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 8, 5, 7])
    """
    return nn.Sequential(Scales(inputs, outputs), Scales(outputs, outputs))
