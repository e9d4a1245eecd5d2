"""The encoder of SegResNet, whose deepest map a CT foundation model gives; its first level, which needs most memory, runs slab by slab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from monai.networks.nets.segresnet_ds import SegResEncoder

SLAB = 8
"""Planes of the second level that are made at a time."""


def segres_encoder(width: int, blocks: tuple[int, ...]) -> SegResEncoder:
    """Build MONAI's encoder over volumes (n, 1, z, y, x) with BatchNorm: its weights carry the names that CT-FM publishes.

    Parameters
    ----------
    width : int
        Channels of the first level; each further one has twice as many on half the grid.
    blocks : tuple of int
        Residual blocks of each level, at least two levels.

    References
    ----------
    Myronenko, BrainLes 2018; Pai et al., Vision foundation models for computed tomography, 2025 (width 32, blocks 1-2-2-4-4).
    """
    from monai.networks.nets.segresnet_ds import SegResEncoder

    return SegResEncoder(init_filters=width, blocks_down=blocks)


def deepest_map(encoder: SegResEncoder, volume: Tensor, *, slab: int = SLAB) -> Tensor:
    """Return the last level's map (n, channels, z', y', x') of a volume (n, 1, z, y, x): what ``encoder(volume)[-1]`` is, with less memory.

    In evaluation mode BatchNorm looks at one place alone, so a slab with as many planes around it as the first level's convolutions reach
    gives the very same numbers.
    """
    first = encoder.layers[0]
    reach = 2 + 2 * len(first["blocks"])  # type: ignore[index]
    reach += reach % 2  # a slab starts on an even plane: the stride of 2 then falls on the same ones
    planes = (volume.shape[2] + 1) // 2
    slabs = []
    for start in range(0, planes, slab):
        stop = min(planes, start + slab)
        begin = max(0, 2 * start - reach)
        part = encoder.conv_init(volume[:, :, begin : 2 * stop + reach])
        part = first["downsample"](first["blocks"](part))  # type: ignore[index]
        slabs.append(part[:, :, start - begin // 2 : stop - begin // 2].clone())
    maps = torch.cat(slabs, dim=2)
    for level in list(encoder.layers)[1:]:
        maps = level["downsample"](level["blocks"](maps))  # type: ignore[index]
    return maps
