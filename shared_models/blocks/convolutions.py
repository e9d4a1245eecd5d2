"""Convolution, normalisation and activation as one block, and channels that shrink with a network's `width`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared_models.blocks.knobs import NormOrNone


def scaled(channels: int, width: int, full: int) -> int:
    """Return `channels` of the published network at another width, a multiple of 4 and at least 4.

    Parameters
    ----------
    channels : int
        As published.
    width, full : int
        Channels of the first stage here, and as published.

    Examples
    --------
    >>> scaled(512, 64, 64), scaled(512, 8, 64), scaled(48, 4, 64)
    (512, 64, 4)
    """
    return channels if width == full else max(4, 4 * round(channels * width / full / 4))


class UncountedBatchNorm(nn.BatchNorm2d):
    """BatchNorm that does not count its batches: a whole number cannot be averaged over sites, and the momentum is fixed anyway."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        nn.Module._load_from_state_dict(self, *args, **kwargs)  # the library's own would put the count back


def norm_of(norm: NormOrNone, channels: int, eps: float = 1e-5) -> nn.Module:
    """Return the normalisation layer that `norm` names.

    Examples
    --------
    >>> sorted(norm_of("batch", 4).state_dict())
    ['bias', 'running_mean', 'running_var', 'weight']
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":  # at least 4 channels a group, so that a map of one pixel still says something
        return nn.GroupNorm(next(groups for groups in range(max(1, min(8, channels // 4)), 0, -1) if channels % groups == 0), channels)
    return UncountedBatchNorm(channels, eps=eps)


class Convolution(nn.Module):
    """A convolution without bias, its normalisation and a ReLU: ``conv`` and ``bn`` are the names that published weights use.

    Parameters
    ----------
    before, after : int
        Channels.
    kernel : int or (int, int)
        Size in pixels; the default padding keeps the size of the map at stride 1.
    padding : int, optional
        0 for a convolution that stays inside the map.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        *,
        norm: NormOrNone,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (sides[0] // 2 * dilation, sides[1] // 2 * dilation) if padding is None else padding
        self.conv = nn.Conv2d(before, after, sides, stride=stride, padding=pad, dilation=dilation, bias=norm == "none")
        self.bn = norm_of(norm, after, eps=1e-3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (n, after, y, x)."""
        return self.relu(self.bn(self.conv(x)))
