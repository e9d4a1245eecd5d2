"""GoogLeNet's convolutions, named as in the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.convolutions import Convolution, scaled
from shared_models.blocks.knobs import Norm

INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pool projection (Szegedy et al., CVPR 2015, table 1)."""


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a pooling side by side, their maps joined."""

    def __init__(self, before: int, channels: tuple[int, ...], wide: int, norm: Norm) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = channels
        self.branch1 = Convolution(before, one, 1, norm=norm)
        self.branch2 = nn.Sequential(Convolution(before, three_in, 1, norm=norm), Convolution(three_in, three, 3, norm=norm))
        self.branch3 = nn.Sequential(Convolution(before, five_in, 1, norm=norm), Convolution(five_in, five, wide, norm=norm))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), Convolution(before, pooled, 1, norm=norm))
        self.channels = one + three + five + pooled

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, channels, y, x)."""
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], dim=1)


class GoogLeNetMaps(nn.Sequential):
    """The stem and nine inceptions, without the auxiliary classifiers.

    Parameters
    ----------
    inputs : int
        Channels of a slice.
    width : int
        Channels of the first convolution; 64 is the published net.
    wide : int
        Kernel of the wide branch: 5 as in the paper, 3 for the weights that PyTorch publishes.

    Examples
    --------
    >>> sum(weight.numel() for weight in GoogLeNetMaps(3, 64, 3, "batch").parameters())
    5599904
    """

    def __init__(self, inputs: int, width: int, wide: int, norm: Norm) -> None:
        super().__init__()
        first, second = scaled(64, width, 64), scaled(192, width, 64)
        self.conv1 = Convolution(inputs, first, 7, norm=norm, stride=2)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2, self.conv3 = Convolution(first, first, 1, norm=norm), Convolution(first, second, 3, norm=norm)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        before = second
        for name, channels in INCEPTIONS.items():
            if name == "inception4a":
                self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            if name == "inception5a":
                self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
            block = Inception(before, tuple(scaled(count, width, 64) for count in channels), wide, norm)
            self.add_module(name, block)
            before = block.channels
        self.channels = before
