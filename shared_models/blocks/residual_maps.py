"""Bottleneck residual networks in two dimensions, named as in the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.convolutions import norm_of
from shared_models.blocks.knobs import Norm


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the stride is that of the 3x3, as in the weights that most people use (v1.5)."""

    def __init__(self, before: int, planes: int, stride: int, norm: Norm) -> None:
        super().__init__()
        after = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(before, planes, 1, bias=False), norm_of(norm, planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False), norm_of(norm, planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, after, 1, bias=False), norm_of(norm, after)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), norm_of(norm, after)) if stride > 1 or before != after else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, 4 planes, y / stride, x / stride)."""
        inside = torch.relu(self.bn1(self.conv1(maps)))
        inside = torch.relu(self.bn2(self.conv2(inside)))
        return torch.relu(self.bn3(self.conv3(inside)) + (maps if self.downsample is None else self.downsample(maps)))


class ResidualMaps(nn.Module):
    """A 7x7 stem and four stages of bottlenecks; 3, 4, 6 and 3 of them at width 64 are ResNet-50 (He et al., CVPR 2016, table 1).

    Examples
    --------
    >>> sum(weight.numel() for weight in ResidualMaps(3, (3, 4, 6, 3), 64, "batch").parameters())
    23508032
    """

    def __init__(self, inputs: int, blocks: tuple[int, ...], width: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 7, stride=2, padding=3, bias=False), norm_of(norm, width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = len(blocks)
        before = width
        for stage, count in enumerate(blocks):
            planes = width * 2**stage
            layers = []
            for number in range(count):
                layers.append(Bottleneck(before, planes, 2 if stage and not number else 1, norm))
                before = 4 * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.channels = before

    def forward(self, slices: Tensor) -> Tensor:
        """Return maps (n, channels, y / 32, x / 32) with four stages."""
        maps = self.pool(torch.relu(self.bn1(self.conv1(slices))))
        for stage in range(self.stages):
            maps = self.get_submodule(f"layer{stage + 1}")(maps)
        return maps
