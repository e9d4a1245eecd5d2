"""Inception-ResNet-v2's convolutions (Szegedy et al., AAAI 2017, figures 3 and 16 to 20), named as in the published weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_models.blocks.convolutions import Convolution, scaled
from shared_models.blocks.knobs import Norm

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel, int, int | None]
"""Channels after, kernel, stride, padding (None keeps the size)."""


class Branches(nn.Module):
    """Chains of convolutions side by side, and perhaps a pooling, their maps joined."""

    def __init__(self, before: int, chains: list[list[Step]], pool: nn.Module | None, norm: Norm) -> None:
        super().__init__()
        self.count = len(chains) + (pool is not None)
        self.channels = 0
        for number, chain in enumerate(chains):
            layers, here = [], before
            for after, kernel, stride, padding in chain:
                layers.append(Convolution(here, after, kernel, norm=norm, stride=stride, padding=padding))
                here = after
            self.add_module(f"branch{number}", nn.Sequential(*layers) if len(layers) > 1 else layers[0])
            self.channels += here
        if pool is not None:
            self.add_module(f"branch{len(chains)}", pool)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the joined maps."""
        return torch.cat([self.get_submodule(f"branch{number}")(maps) for number in range(self.count)], dim=1)


class Residual(Branches):
    """Branches whose maps, brought back to the channels of the input by a 1x1 convolution, are added to it at a small scale."""

    def __init__(self, before: int, chains: list[list[Step]], scale: float, norm: Norm, *, relu: bool = True) -> None:
        super().__init__(before, chains, None, norm)
        self.conv2d = nn.Conv2d(self.channels, before, 1)
        self.scale, self.relu = scale, relu

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the shape of `maps`."""
        out = maps + self.scale * self.conv2d(super().forward(maps))
        return torch.relu(out) if self.relu else out


def inception_residual_maps(inputs: int, blocks: tuple[int, int, int], width: int, norm: Norm) -> tuple[nn.Sequential, int]:
    """Return the convolutions and the channels of their last map; 10, 20 and 9 blocks at width 32 are the published net.

    Examples
    --------
    >>> maps, channels = inception_residual_maps(3, (10, 20, 9), 32, "batch")
    >>> channels, sum(weight.numel() for weight in maps.parameters())
    (1536, 54306464)
    """

    def at(channels: int) -> int:
        return scaled(channels, width, 32)

    def same(*steps: tuple[int, Kernel]) -> list[Step]:
        return [(at(channels), kernel, 1, None) for channels, kernel in steps]

    def halved(*steps: tuple[int, Kernel]) -> list[Step]:
        return [*same(*steps[:-1]), (at(steps[-1][0]), steps[-1][1], 2, 0)]

    maps = nn.Sequential()

    def stem(name: str, before: int, after: int, kernel: int, stride: int = 1, padding: int | None = 0) -> int:
        maps.add_module(name, Convolution(before, after, kernel, norm=norm, stride=stride, padding=padding))
        return after

    here = stem("conv2d_1a", inputs, at(32), 3, stride=2)
    here = stem("conv2d_2b", stem("conv2d_2a", here, at(32), 3), at(64), 3, padding=1)
    maps.add_module("maxpool_3a", nn.MaxPool2d(3, stride=2))
    here = stem("conv2d_4a", stem("conv2d_3b", here, at(80), 1), at(192), 3)
    maps.add_module("maxpool_5a", nn.MaxPool2d(3, stride=2))
    averaged = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), Convolution(here, at(64), 1, norm=norm))
    mixed = Branches(here, [same((96, 1)), same((48, 1), (64, 5)), same((64, 1), (96, 3), (96, 3))], averaged, norm)
    here = mixed.channels + at(64)
    maps.add_module("mixed_5b", mixed)

    def repeated(name: str, count: int, chains: list[list[Step]], scale: float) -> None:
        maps.add_module(name, nn.Sequential(*(Residual(here, chains, scale, norm) for _ in range(count))))

    def reduced(name: str, chains: list[list[Step]]) -> int:
        block = Branches(here, chains, nn.MaxPool2d(3, stride=2), norm)
        maps.add_module(name, block)
        return here + block.channels

    repeated("repeat", blocks[0], [same((32, 1)), same((32, 1), (32, 3)), same((32, 1), (48, 3), (64, 3))], 0.17)
    here = reduced("mixed_6a", [halved((384, 3)), halved((256, 1), (256, 3), (384, 3))])
    repeated("repeat_1", blocks[1], [same((192, 1)), same((128, 1), (160, (1, 7)), (192, (7, 1)))], 0.10)
    here = reduced("mixed_7a", [halved((256, 1), (384, 3)), halved((256, 1), (288, 3)), halved((256, 1), (288, 3), (320, 3))])
    last = [same((192, 1)), same((192, 1), (224, (1, 3)), (256, (3, 1)))]
    repeated("repeat_2", blocks[2], last, 0.20)
    maps.add_module("block8", Residual(here, last, 1.0, norm, relu=False))
    here = stem("conv2d_7b", here, at(1536), 1)
    return maps, here
