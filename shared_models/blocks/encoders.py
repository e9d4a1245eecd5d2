"""From a slice to a vector: scale the values, convolve to a last feature map, take its mean. What every network over slices begins with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_models.core.errors import BadInput


class InputScale(nn.Module):
    """Bring values 0..1 of a slice to what the first convolution was trained on: ``(x - mean) / std``, by default -1..1.

    A grey slice becomes as many channels as `mean` has numbers. The numbers are settings, not weights: they are no part of a state.

    Parameters
    ----------
    channels : int
        Channels of the first convolution.

    Examples
    --------
    >>> InputScale(1)(torch.tensor([[[[0.0, 1.0]]]])).tolist()
    [[[[-1.0, 1.0]]]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5), persistent=False)
        self.register_buffer("std", torch.full((channels, 1, 1), 0.5), persistent=False)

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the normalisation of a weights file."""
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return (n, channels, y, x) of (n, 1 or channels, y, x)."""
        return (slices - self.mean) / self.std


def refuse_small(slices: Tensor, least_px: int, name: str) -> None:
    """Refuse slices that a network's strides would shrink to nothing.

    Raises
    ------
    BadInput
        Rows or columns below `least_px`.
    """
    if min(slices.shape[-2:]) < least_px:
        rule = f"{name} needs slices of at least {least_px} x {least_px} pixels"
        raise BadInput(rule, value=tuple(slices.shape[-2:]), remedy=f"set inputs.size = {least_px} or more, or choose a model with fewer strides")


class MapEncoder(nn.Module):
    """A slice as a vector: ``relu(W mean(maps))``. The mean takes maps of any size, so that small slices do.

    Parameters
    ----------
    maps : nn.Module
        Convolutions from (n, inputs, y, x) to the last feature map (n, channels, y', x'); class activation maps look here.
    channels : int
        Channels of that map.
    features : int
        Length of the vector.
    inputs : int
        Channels that the first convolution reads.
    least_px : int
        Smallest rows and columns.
    name : str
        The network, for messages.

    Raises
    ------
    BadInput
        On a smaller slice.
    """

    def __init__(self, maps: nn.Module, channels: int, features: int, *, inputs: int, least_px: int, name: str) -> None:
        super().__init__()
        self.scale = InputScale(inputs)
        self.maps = maps
        self.neck = nn.Linear(channels, features)
        self.least_px, self.name = least_px, name

    def forward(self, slices: Tensor) -> Tensor:
        """Return vectors (n, features) of slices (n, 1 or inputs, y, x) with values in 0..1."""
        refuse_small(slices, self.least_px, self.name)
        return torch.relu(self.neck(self.maps(self.scale(slices)).mean((2, 3))))


def start_by_relu(network: nn.Module) -> None:
    """Draw the convolutions for ReLU (He et al., ICCV 2015): without normalisation a deep network learns from no other start."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
