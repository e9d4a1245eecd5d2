"""Linear layers and convolutions whose weight is ``W + B A`` (Hu et al., LoRA, ICLR 2022): the plain names stay, two arrays stand beside them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class _LowRank(nn.Module):
    weight: Tensor
    lora_down: nn.Parameter
    lora_up: nn.Parameter

    def take(self, layer: Any, rank: int) -> None:
        """Take over the arrays of `layer`; A is drawn as a layer's weight is, B is zero: nothing changes yet."""
        self.weight, self.bias = layer.weight, layer.bias
        outputs, inputs = len(layer.weight), layer.weight[0].numel()
        drawn = torch.empty(rank, inputs, dtype=layer.weight.dtype, device=layer.weight.device)
        self.lora_down = nn.Parameter(nn.init.uniform_(drawn, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs)))
        self.lora_up = nn.Parameter(torch.zeros(outputs, rank, dtype=drawn.dtype, device=drawn.device))

    def whole(self) -> Tensor:
        """Return ``W + B A`` in the weight's shape."""
        return self.weight + (self.lora_up @ self.lora_down).view_as(self.weight)


class LowRankLinear(_LowRank, nn.Linear):
    """``x (W + B A)^T + b``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., outputs) of (..., inputs); the product of B and A is never made."""
        return linear(input, self.weight, self.bias) + linear(linear(input, self.lora_down), self.lora_up)


class LowRankConv2d(_LowRank, nn.Conv2d):
    """A convolution with the kernel ``W + B A``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (n, outputs, y', x') of (n, inputs, y, x)."""
        return self._conv_forward(input, self.whole(), self.bias)


class LowRankConv3d(_LowRank, nn.Conv3d):
    """A convolution in three dimensions with the kernel ``W + B A``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (n, outputs, z', y', x') of (n, inputs, z, y, x)."""
        return self._conv_forward(input, self.whole(), self.bias)


KINDS: dict[type[nn.Module], type[_LowRank]] = {nn.Linear: LowRankLinear, nn.Conv2d: LowRankConv2d, nn.Conv3d: LowRankConv3d}
"""What each layer becomes; others, also those that are made of these, are not adapted."""


def low_rank(layer: nn.Module, rank: int) -> nn.Module:
    """Return `layer`, of one of KINDS, with low-rank arrays beside its weight; it keeps its own arrays.

    Examples
    --------
    >>> layer = low_rank(nn.Conv2d(2, 3, 5), 4)
    >>> {name: tuple(value.shape) for name, value in layer.named_parameters()}
    {'weight': (3, 2, 5, 5), 'bias': (3,), 'lora_down': (4, 50), 'lora_up': (3, 4)}
    """
    kind: Any = KINDS[type(layer)]
    given: Any = layer
    with torch.device("meta"):  # the arrays of its own are dropped at once: nothing is drawn for them
        if isinstance(layer, nn.Linear):
            made = kind(given.in_features, given.out_features, bias=given.bias is not None)
        else:
            names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
            made = kind(**{name: getattr(given, name) for name in names}, bias=given.bias is not None)
    made.take(layer, rank)
    return made.train(layer.training)
