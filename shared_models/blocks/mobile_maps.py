"""MobileNetV3-Small's convolutions, a refined attention pyramid over their levels, and a light decoder: the parts of MobileUNetV3."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, hardswish, interpolate

from shared_models.blocks.channel_attention import BlockAttention
from shared_models.blocks.convolutions import norm_of, scaled
from shared_models.blocks.encoders import InputScale, refuse_small
from shared_models.blocks.knobs import Norm

SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
"""Kernel, channels inside, channels after, squeeze, hard swish, stride (Howard et al., Searching for MobileNetV3, ICCV 2019, table 2)."""
LEVELS = (1, 3, 8, 11)
"""Layers after which a map of 1/4, 1/8, 1/16 and 1/32 of the resolution is done."""


def _step(before: int, after: int, kernel: int, norm: Norm, act: type[nn.Module] | None, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False), norm_of(norm, after, eps=1e-3)]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


class Squeeze(nn.Module):
    """Squeeze and excitation with a hard sigmoid, a quarter of the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        inside = max(8, (quarter + 4) // 8 * 8)
        inside += 8 if inside < 0.9 * quarter else 0
        self.fc1, self.fc2 = nn.Conv2d(channels, inside, 1), nn.Conv2d(inside, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the shape of `maps`."""
        return maps * hardsigmoid(self.fc2(torch.relu(self.fc1(maps.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by itself, weigh the channels, narrow by 1x1; beside a shortcut where the shape stays."""

    def __init__(self, before: int, inside: int, after: int, kernel: int, *, squeeze: bool, hard: bool, stride: int, norm: Norm) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = [] if inside == before else [_step(before, inside, 1, norm, act)]
        layers.append(_step(inside, inside, kernel, norm, act, stride=stride, groups=inside))
        layers += [Squeeze(inside)] if squeeze else []
        self.block = nn.Sequential(*layers, _step(inside, after, 1, norm, None))
        self.short = stride == 1 and before == after

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, after, y / stride, x / stride)."""
        return maps + self.block(maps) if self.short else self.block(maps)


def mobile_maps(inputs: int, width: int, norm: Norm) -> tuple[nn.Sequential, list[int]]:
    """Return MobileNetV3-Small's convolutions but the classifier, and the channels of each level; width 16 is the published net.

    Examples
    --------
    >>> maps, channels = mobile_maps(3, 16, "batch")
    >>> channels, sum(weight.numel() for weight in maps.parameters())
    ([16, 24, 48, 96, 576], 927008)
    """
    before = scaled(16, width, 16)
    layers: list[nn.Module] = [_step(inputs, before, 3, norm, nn.Hardswish, stride=2)]
    channels = []
    for number, (kernel, inside, after, squeeze, hard, stride) in enumerate(SMALL, 1):
        inside, after = scaled(inside, width, 16), scaled(after, width, 16)
        layers.append(InvertedResidual(before, inside, after, kernel, squeeze=squeeze, hard=hard, stride=stride, norm=norm))
        before = after
        channels += [after] if number in LEVELS else []
    last = scaled(576, width, 16)
    return nn.Sequential(*layers, _step(before, last, 1, norm, nn.Hardswish)), [*channels, last]


class RefinedPyramid(nn.Module):
    """Levels from coarse to fine, each weighed by attention and gated by the one above: ``P = attend(C) * up(P above) + C``.

    Parameters
    ----------
    channels : list of int
        Of each level, fine to coarse.
    width : int
        Channels of the pyramid.
    """

    def __init__(self, channels: list[int], width: int, norm: Norm) -> None:
        super().__init__()
        self.enter = nn.ModuleList(_step(before, width, 1, norm, nn.ReLU) for before in channels)
        self.attend = nn.ModuleList(BlockAttention(width) for _ in channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return the means of all levels of the pyramid, (n, levels * width)."""
        entered = [enter(level) for enter, level in zip(self.enter, levels, strict=True)]
        above = self.attend[-1](entered[-1])
        means = [above.mean((2, 3))]
        for level, attend in zip(entered[-2::-1], list(self.attend)[-2::-1], strict=True):
            above = attend(level) * interpolate(above, size=level.shape[2:], mode="bilinear", align_corners=False) + level
            means.append(above.mean((2, 3)))
        return torch.cat(means, dim=1)


class MobileUNetEncoder(nn.Module):
    """A slice as a vector: the means of the bottleneck, of the refined pyramid and of a light decoder, brought to `features` numbers.

    Parameters
    ----------
    inputs, width : int
        Channels of a slice, and of the first convolution.
    pyramid : int
        Channels of the pyramid and of the decoder.
    features : int
        Length of the vector.
    least_px : int
        Smallest rows and columns.
    refined : bool
        Whether the refined pyramid's means are part of the vector.
    """

    def __init__(self, inputs: int, width: int, pyramid: int, norm: Norm, features: int, *, least_px: int, refined: bool = True) -> None:
        super().__init__()
        self.scale = InputScale(inputs)
        self.features, channels = mobile_maps(inputs, width, norm)
        self.maps = nn.Identity()
        self.pyramid = RefinedPyramid(channels[:-1], pyramid, norm) if refined else None
        ways = [channels[-1], *([pyramid] * (len(channels) - 3))]
        self.up = nn.ModuleList(
            nn.Sequential(_step(here + skip, here + skip, 3, norm, nn.ReLU, groups=here + skip), _step(here + skip, pyramid, 1, norm, nn.ReLU))
            for here, skip in zip(ways, channels[-3::-1], strict=True)
        )
        # Normalised: without, a few steps too long silence every feature of all patients at once, and nothing brings them back.
        self.neck = nn.Sequential(nn.Linear(channels[-1] + pyramid * (len(channels) if refined else 1), features), nn.LayerNorm(features))
        self.least_px = least_px

    def forward(self, slices: Tensor) -> Tensor:
        """Return vectors (n, features) of slices (n, 1 or inputs, y, x) with values in 0..1."""
        refuse_small(slices, self.least_px, "mobile_unet_v3")
        here, levels = self.scale(slices), []
        for number, layer in enumerate(self.features):
            here = layer(here)
            levels += [here] if number in LEVELS else []
        bottleneck = here = self.maps(here)
        for step, skip in zip(self.up, levels[-2::-1], strict=True):
            here = step(torch.cat([interpolate(here, size=skip.shape[2:], mode="bilinear", align_corners=False), skip], dim=1))
        refined = [] if self.pyramid is None else [self.pyramid(levels)]
        return hardswish(self.neck(torch.cat([bottleneck.mean((2, 3)), *refined, here.mean((2, 3))], dim=1)))
