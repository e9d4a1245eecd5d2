"""HRNet in two dimensions: streams of several resolutions side by side, which exchange what they see after every stage."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared_models.blocks.layers import group_norm
from shared_models.blocks.segmentation import padded


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual (He et al., CVPR 2016), GroupNorm instead of BatchNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            group_norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            group_norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the shape of `x`."""
        return torch.relu(x + self.body(x))


class Exchange(nn.Module):
    """Every stream gets the sum of all streams, brought to its resolution: strided 3x3 convolutions down, 1x1 and bilinear up."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.count = len(widths)
        ways: dict[str, nn.Module] = {}
        for source, before in enumerate(widths):
            for target, after in enumerate(widths):
                if source > target:
                    ways[f"{source}_{target}"] = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), group_norm(after))
                elif source < target:
                    steps: list[nn.Module] = []
                    for number in range(target - source):
                        last = number == target - source - 1
                        width = after if last else before
                        steps += [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), group_norm(width)]
                        steps += [] if last else [nn.ReLU()]
                    ways[f"{source}_{target}"] = nn.Sequential(*steps)
        self.ways = nn.ModuleDict(ways)

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Return one map a stream."""
        out = []
        for target in range(self.count):
            total = streams[target]
            for source in range(self.count):
                if source != target:
                    part = self.ways[f"{source}_{target}"](streams[source])
                    if source > target:
                        part = interpolate(part, size=total.shape[2:], mode="bilinear", align_corners=False)
                    total = total + part
            out.append(torch.relu(total))
        return out


class HRNet(nn.Module):
    """A full-resolution stem, then one stream more in every stage, each with residual blocks and an exchange; all streams reach the head.

    Unlike the published net, whose stem divides the resolution by four, the first stream here keeps half of it: lung slices are small.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    widths : tuple of int
        Channels of each stream.
    blocks : int
        Residual blocks a stream and stage.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(nn.Conv2d(inputs, first, 3, stride=2, padding=1, bias=False), group_norm(first), nn.ReLU())
        self.open = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), group_norm(after), nn.ReLU())
            for before, after in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths[: stage + 1]) for stage in range(len(widths))
        )
        self.exchanges = nn.ModuleList(Exchange(widths[: stage + 1]) for stage in range(len(widths)))
        self.fine = nn.Sequential(nn.Conv2d(inputs + sum(widths), first, 3, padding=1, bias=False), group_norm(first), nn.ReLU())
        self.head = nn.Conv2d(first, outputs, 1)
        self.stride = 2 ** len(widths)

    def forward(self, slices: Tensor) -> Tensor:
        """Return logits (n, outputs, y, x) of slices (n, inputs, y, x) in 0..1."""
        rows, columns = slices.shape[2:]
        image = padded(slices, self.stride) * 2 - 1
        streams = [self.stem(image)]
        for stage, (blocks, exchange) in enumerate(zip(self.stages, self.exchanges, strict=True)):
            if stage:
                streams.append(self.open[stage - 1](streams[-1]))
            streams = exchange([block(stream) for block, stream in zip(blocks, streams, strict=True)])  # type: ignore[call-overload]
        maps = [interpolate(stream, size=image.shape[2:], mode="bilinear", align_corners=False) for stream in streams]
        return self.head(self.fine(torch.cat([image, *maps], dim=1)))[:, :, :rows, :columns]
