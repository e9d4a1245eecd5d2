"""U-Net and its nested form, in two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from shared_models.blocks.segmentation import double_convolution, overlap_loss, padded


class UNet(nn.Module):
    """Encoder and decoder of double convolutions with skips; upsampling is bilinear, so that no checkerboard appears.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    widths : tuple of int
        Channels of each level; every level halves the resolution.
    bottom : nn.Module, optional
        Put behind the deepest level.
    dropout : float
        Dropout in the decoder.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...], bottom: nn.Module | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        befores = (inputs, *widths[:-1])
        self.down = nn.ModuleList(double_convolution(before, width) for before, width in zip(befores, widths, strict=True))
        self.bottom = bottom if bottom is not None else nn.Identity()
        self.up = nn.ModuleList(double_convolution(wide + narrow, narrow) for narrow, wide in pairwise(widths))
        self.drop = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[0], outputs, 1)
        self.stride = 2 ** (len(widths) - 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return logits (n, outputs, y, x) of slices (n, inputs, y, x) in 0..1."""
        rows, columns = slices.shape[2:]
        here = padded(slices, self.stride) * 2 - 1
        skips = []
        for level, block in enumerate(self.down):
            here = block(max_pool2d(here, 2) if level else here)
            skips.append(here)
        here = self.bottom(here)
        for level in range(len(self.up) - 1, -1, -1):
            here = interpolate(here, scale_factor=2, mode="bilinear", align_corners=False)
            here = self.drop(self.up[level](torch.cat([skips[level], here], dim=1)))
        return self.head(here)[:, :, :rows, :columns]


class NestedUNet(nn.Module):
    """U-Net++: every node of a triangle sees all earlier nodes of its level and the one below; a head on each node of the top level.

    ``X[i, j] = conv([X[i, 0], ..., X[i, j-1], up(X[i+1, j-1])])`` (Zhou et al., equation 1). The logits are the mean over the heads.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    widths : tuple of int
        Channels of each level.
    block : callable
        ``block(inputs, outputs)``: the convolutions of a node.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...], block: Callable[[int, int], nn.Module] = double_convolution) -> None:
        super().__init__()
        self.levels = len(widths)
        nodes: dict[str, nn.Module] = {}
        for i, width in enumerate(widths):
            nodes[f"{i}_0"] = block(inputs if i == 0 else widths[i - 1], width)
            for j in range(1, self.levels - i):
                nodes[f"{i}_{j}"] = block(j * width + widths[i + 1], width)
        self.nodes = nn.ModuleDict(nodes)
        self.heads = nn.ModuleList(nn.Conv2d(widths[0], outputs, 1) for _ in range(self.levels - 1))

    def forward(self, slices: Tensor) -> Tensor:
        """Return logits (n, outputs, y, x) of slices (n, inputs, y, x) in 0..1."""
        return torch.stack(self.look(slices)).mean(0)

    def look(self, slices: Tensor) -> list[Tensor]:
        """Return the logits of every head, from the shallowest sub-network to the whole."""
        rows, columns = slices.shape[2:]
        here = padded(slices, 2 ** (self.levels - 1)) * 2 - 1
        found: dict[tuple[int, int], Tensor] = {}
        for i in range(self.levels):
            here = self.nodes[f"{i}_0"](max_pool2d(here, 2) if i else here)
            found[i, 0] = here
        for j in range(1, self.levels):
            for i in range(self.levels - j):
                below = interpolate(found[i + 1, j - 1], scale_factor=2, mode="bilinear", align_corners=False)
                found[i, j] = self.nodes[f"{i}_{j}"](torch.cat([*(found[i, k] for k in range(j)), below], dim=1))
        return [head(found[0, j + 1])[:, :, :rows, :columns] for j, head in enumerate(self.heads)]


def deep_loss(network: NestedUNet, slices: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of `overlap_loss` over all heads (deep supervision), shape (n,)."""
    return torch.stack([overlap_loss(logits, labels) for logits in network.look(slices)]).mean(0)
