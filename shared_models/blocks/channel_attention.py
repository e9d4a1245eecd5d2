"""Attention inside a feature map: over its channels (squeeze and excitation) and over channels and places (CBAM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.convolutions import Convolution
from shared_models.blocks.knobs import Norm


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a gate that sees the means of all (Hu, Shen & Sun, CVPR 2018, equation 3).

    Parameters
    ----------
    channels : int
    reduction : int
        The gate's hidden layer has ``channels / reduction`` units, at least 2.

    Examples
    --------
    >>> SqueezeExcitation(32)(torch.zeros(2, 32, 5, 5)).shape
    torch.Size([2, 32, 5, 5])
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(2, channels // reduction)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the shape of `maps`, (n, channels, y, x)."""
        return maps * self.gate(maps.mean((2, 3)))[:, :, None, None]


class BlockAttention(nn.Module):
    """Convolutional block attention module: a gate of the channels, then a gate of the places (Woo et al., ECCV 2018, equations 1 to 3).

    The channel gate is one shared perceptron over mean and maximum; the place gate a 7 x 7 convolution of the mean and the maximum over
    the channels.

    Parameters
    ----------
    channels : int
    reduction : int
        As in `SqueezeExcitation`.
    kernel : int
        Of the place gate, odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        hidden = max(2, channels // reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.place = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the shape of `maps`, (n, channels, y, x)."""
        maps = maps * torch.sigmoid(self.channel(maps.mean((2, 3))) + self.channel(maps.amax((2, 3))))[:, :, None, None]
        return maps * torch.sigmoid(self.place(torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)))


def attention_maps(inputs: int, width: int, norm: Norm) -> nn.Sequential:
    """Return four stages of 3x3 convolution, halving and block attention, of 1, 2, 4 and 8 widths.

    Examples
    --------
    >>> attention_maps(1, 4, "group")(torch.zeros(1, 1, 32, 48)).shape
    torch.Size([1, 32, 2, 3])
    """
    stages, before = [], inputs
    for after in (width, 2 * width, 4 * width, 8 * width):
        stages.append(nn.Sequential(Convolution(before, after, 3, norm=norm), nn.MaxPool2d(2), BlockAttention(after)))
        before = after
    return nn.Sequential(*stages)
