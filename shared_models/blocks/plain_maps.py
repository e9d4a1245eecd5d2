"""Chains of convolutions and pooling: VGG, the compact VGG, AlexNet. Layers stand and are numbered as in the published weights."""

from __future__ import annotations

from torch import nn

from shared_models.blocks.convolutions import norm_of, scaled
from shared_models.blocks.encoders import start_by_relu
from shared_models.blocks.knobs import NormOrNone

VGG_DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each of the five blocks (Simonyan & Zisserman, ICLR 2015, table 1, columns D and E)."""


def _block(layers: list[nn.Module], before: int, after: int, kernel: int, norm: NormOrNone, *, stride: int = 1, padding: int | None = None) -> int:
    layers.append(nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2 if padding is None else padding))
    layers += [] if norm == "none" else [norm_of(norm, after)]
    layers.append(nn.ReLU())
    return after


def vgg_maps(inputs: int, depth: int, width: int, norm: NormOrNone) -> tuple[nn.Sequential, int]:
    """Return the convolutions of VGG-16 or VGG-19 and the channels of their last map.

    Examples
    --------
    >>> maps, channels = vgg_maps(3, 16, 64, "none")
    >>> channels, sum(weight.numel() for weight in maps.parameters())
    (512, 14714688)
    """
    layers: list[nn.Module] = []
    before = inputs
    for count, channels in zip(VGG_DEPTHS[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            before = _block(layers, before, scaled(channels, width, 64), 3, norm)
        layers.append(nn.MaxPool2d(2))
    maps = nn.Sequential(*layers)
    start_by_relu(maps)
    return maps, before


def compact_vgg_maps(inputs: int, width: int, norm: NormOrNone, dropout: float) -> tuple[nn.Sequential, int]:
    """Return the convolutions of the compact VGG, 32, 2 x 64 and 2 x 128 channels at `width` 32, and the channels of their last map."""
    layers: list[nn.Module] = []
    before = inputs
    for count, channels, pool in ((1, 32, 3), (2, 64, 2), (2, 128, 2)):
        for _ in range(count):
            before = _block(layers, before, scaled(channels, width, 32), 3, norm)
        layers += [nn.MaxPool2d(pool), nn.Dropout(dropout)]
    maps = nn.Sequential(*layers)
    start_by_relu(maps)
    return maps, before


def alexnet_maps(inputs: int, width: int, norm: NormOrNone) -> tuple[nn.Sequential, int]:
    """Return the convolutions of AlexNet in one column (Krizhevsky, arXiv:1404.5997) and the channels of their last map.

    Examples
    --------
    >>> maps, channels = alexnet_maps(3, 64, "none")
    >>> channels, sum(weight.numel() for weight in maps.parameters())
    (256, 2469696)
    """
    layers: list[nn.Module] = []
    before = _block(layers, inputs, scaled(64, width, 64), 11, norm, stride=4, padding=2)
    layers.append(nn.MaxPool2d(3, stride=2))
    before = _block(layers, before, scaled(192, width, 64), 5, norm)
    layers.append(nn.MaxPool2d(3, stride=2))
    for channels in (384, 256, 256):
        before = _block(layers, before, scaled(channels, width, 64), 3, norm)
    layers.append(nn.MaxPool2d(3, stride=2))
    maps = nn.Sequential(*layers)
    start_by_relu(maps)
    return maps, before
