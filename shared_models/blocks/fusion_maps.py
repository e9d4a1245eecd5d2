"""Maps that several kernels or several resolutions make side by side: MufiNet and the parallel multi-scale network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared_models.blocks.channel_attention import SqueezeExcitation
from shared_models.blocks.convolutions import Convolution, norm_of
from shared_models.blocks.hrnet import Exchange
from shared_models.blocks.knobs import Norm


class MultiKernelBlock(nn.Module):
    """3x3 and 5x5 convolutions side by side, fused by 1x1, channels weighed, beside a shortcut; halves the resolution."""

    def __init__(self, before: int, after: int, norm: Norm) -> None:
        super().__init__()
        self.narrow = Convolution(before, after // 2, 3, norm=norm, stride=2)
        self.wide = Convolution(before, after // 2, 5, norm=norm, stride=2)
        self.fuse = nn.Sequential(nn.Conv2d(2 * (after // 2), after, 1, bias=False), norm_of(norm, after))
        self.weigh = SqueezeExcitation(after)
        self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), norm_of(norm, after))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (n, after, y / 2, x / 2)."""
        return torch.relu(self.weigh(self.fuse(torch.cat([self.narrow(maps), self.wide(maps)], dim=1))) + self.short(maps))


class MultiKernelMaps(nn.Module):
    """Three stems of 3x3, 5x5 and 7x7 kernels, fused by 1x1, then four multi-kernel blocks of 2, 4, 8 and 16 widths."""

    def __init__(self, inputs: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.stems = nn.ModuleList(Convolution(inputs, width, kernel, norm=norm) for kernel in (3, 5, 7))
        self.fuse = Convolution(3 * width, width, 1, norm=norm)
        self.blocks = nn.Sequential(*(MultiKernelBlock(width * 2**stage, width * 2 ** (stage + 1), norm) for stage in range(4)))
        self.channels = 16 * width

    def forward(self, slices: Tensor) -> Tensor:
        """Return maps (n, channels, y / 16, x / 16)."""
        return self.blocks(self.fuse(torch.cat([stem(slices) for stem in self.stems], dim=1)))


class DilatedBlock(nn.Module):
    """Three 3x3 convolutions of dilation 1, 2 and 4 side by side, joined by 1x1, beside a shortcut."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        inner = max(4, channels // 4)
        self.ways = nn.ModuleList(Convolution(channels, inner, 3, norm=norm, dilation=dilation) for dilation in (1, 2, 4))
        self.fuse = nn.Sequential(nn.Conv2d(3 * inner, channels, 1, bias=False), norm_of(norm, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the shape of `maps`."""
        return torch.relu(self.fuse(torch.cat([way(maps) for way in self.ways], dim=1)) + maps)


class ParallelScaleMaps(nn.Module):
    """A 7x7 stem, then branches at full, half and quarter resolution side by side, which exchange what they see after every block.

    The last map joins the branches, each weighed over its channels and brought to the resolution of the first by repetition, so that its
    mean is the mean of every branch.

    Parameters
    ----------
    inputs : int
        Channels of a slice.
    widths : tuple of int
        Channels of each branch.
    blocks : int
        Dilated residual blocks of each branch.
    norm : str
        Of the branches; the exchange has GroupNorm.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], blocks: int, norm: Norm) -> None:
        super().__init__()
        self.stem = Convolution(inputs, widths[0], 7, norm=norm, stride=2)
        self.open = nn.ModuleList(Convolution(widths[n], widths[n + 1], 3, norm=norm, stride=2) for n in range(len(widths) - 1))
        self.branches = nn.ModuleList(nn.ModuleList(DilatedBlock(width, norm) for width in widths) for _ in range(blocks))
        self.exchanges = nn.ModuleList(Exchange(widths) for _ in range(blocks))
        self.weigh = nn.ModuleList(SqueezeExcitation(width) for width in widths)
        self.channels = sum(widths)

    def forward(self, slices: Tensor) -> Tensor:
        """Return maps (n, channels, y / 2, x / 2)."""
        streams = [self.stem(slices)]
        for step in self.open:
            streams.append(step(streams[-1]))
        for blocks, exchange in zip(self.branches, self.exchanges, strict=True):
            streams = exchange([block(stream) for block, stream in zip(blocks, streams, strict=True)])  # type: ignore[call-overload]
        size = streams[0].shape[2:]
        return torch.cat([interpolate(weigh(stream), size=size) for weigh, stream in zip(self.weigh, streams, strict=True)], dim=1)
