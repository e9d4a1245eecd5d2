"""Densely connected networks in two dimensions, named as in the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.convolutions import norm_of
from shared_models.blocks.knobs import Norm


class DenseLayer(nn.Module):
    """Adds `growth` channels to what all earlier layers of its block made: norm, ReLU, 1x1 to 4 x growth, norm, ReLU, 3x3."""

    def __init__(self, before: int, growth: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm_of(norm, before), nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = norm_of(norm, 4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return `maps` with `growth` channels more."""
        inside = self.conv1(torch.relu(self.norm1(maps)))
        return torch.cat([maps, self.conv2(torch.relu(self.norm2(inside)))], dim=1)


class DenseMaps(nn.Sequential):
    """Stem, dense blocks with halving transitions between them, a last norm and ReLU; (6, 12, 32, 32) layers are DenseNet-169.

    Huang et al., Densely connected convolutional networks, CVPR 2017, table 1.

    Examples
    --------
    >>> maps = DenseMaps(3, (6, 12, 32, 32), growth=32, first=64, norm="batch")
    >>> maps.channels, sum(weight.numel() for weight in maps.parameters())
    (1664, 12484480)
    """

    def __init__(self, inputs: int, layers: tuple[int, ...], *, growth: int, first: int, norm: Norm) -> None:
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(inputs, first, 7, stride=2, padding=3, bias=False), norm_of(norm, first)
        self.relu0, self.pool0 = nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        channels = first
        for number, count in enumerate(layers, 1):
            block = nn.Sequential()
            for place in range(count):
                block.add_module(f"denselayer{place + 1}", DenseLayer(channels, growth, norm))
                channels += growth
            self.add_module(f"denseblock{number}", block)
            if number < len(layers):
                step = nn.Sequential()
                step.add_module("norm", norm_of(norm, channels))
                step.add_module("relu", nn.ReLU())
                step.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
                step.add_module("pool", nn.AvgPool2d(2))
                self.add_module(f"transition{number}", step)
                channels //= 2
        self.add_module(f"norm{len(layers) + 1}", norm_of(norm, channels))
        self.add_module(f"relu{len(layers) + 1}", nn.ReLU())
        self.channels = channels
