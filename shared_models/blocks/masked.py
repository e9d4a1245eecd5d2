"""An encoder up to its last feature map, shown slices with hidden squares, and a decoder of two convolutions that draws what was hidden."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from shared_models.core.errors import BadInput

JUDGED = 20
"""Seed of the squares that are hidden in evaluation: the same at every site and in every round, so that figures compare."""


class _Reached(Exception):
    """Carries the feature map out of a forward pass that need not go on."""

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps


def _stop(module: nn.Module, given: Any, maps: Tensor) -> None:
    del module, given
    raise _Reached(maps)


class MaskedAutoencoder(nn.Module):
    """Hide squares of each slice under a learnt grey, encode the slice, draw it from the encoder's last feature map.

    Parameters
    ----------
    network : nn.Module
        Of slices (n, k, y, x); what lies behind its feature map is cut off.
    feature_map : str
        The module whose output is the map, (n * k, channels, y', x').
    cell_px, hidden, width
        As in `masked_autoencoder`.
    least_px : int
        Side of an empty slice on which channels and stride of the map are found.
    """

    def __init__(self, network: nn.Module, feature_map: str, *, cell_px: int, hidden: float, width: int, least_px: int) -> None:
        super().__init__()
        self.network, self.feature_map, self.cell_px, self.hidden = network, feature_map, cell_px, hidden
        maps = self._encoded(torch.zeros(1, 1, least_px, least_px))
        maps.sum().backward()
        _cut_off(network)
        network.zero_grad(set_to_none=True)
        self.stride = max(1, round(least_px / maps.shape[-1]))
        self.token = nn.Parameter(torch.full((1,), 0.5))
        self.decoder = nn.Sequential(nn.Conv2d(maps.shape[1], width, 3, padding=1), nn.GELU(), nn.Conv2d(width, self.stride**2, 1))

    def forward(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the drawing (n, k, y, x) of slices with values in 0..1, and which pixels were hidden, bool of the same shape.

        In training the squares come from torch's own generator, in evaluation they are the same for every slice of a size.
        """
        unseen = self._squares(slices)
        maps = self._encoded(torch.where(unseen, self.token, slices))
        drawn = pixel_shuffle(self.decoder(maps), self.stride)
        if drawn.shape[-2:] != slices.shape[-2:]:
            drawn = interpolate(drawn, size=slices.shape[-2:], mode="bilinear", align_corners=False)
        return drawn.reshape(slices.shape), unseen

    def _encoded(self, slices: Tensor) -> Tensor:
        hook = self.network.get_submodule(self.feature_map).register_forward_hook(_stop)
        try:
            self.network(slices)
        except _Reached as reached:
            return reached.maps
        finally:
            hook.remove()
        raise BadInput("a network passes through its feature map", value=self.feature_map)

    def _squares(self, slices: Tensor) -> Tensor:
        n, k, y, x = slices.shape
        rows, columns = -(-y // self.cell_px), -(-x // self.cell_px)
        generator = None if self.training else torch.Generator().manual_seed(JUDGED)
        places = torch.rand((n * k if self.training else k, rows * columns), generator=generator).argsort(1).argsort(1)
        cells = places < max(1, round(self.hidden * rows * columns))
        cells = (cells if self.training else cells.repeat(n, 1)).view(n, k, rows, columns).to(slices.device)
        return cells.repeat_interleave(self.cell_px, 2).repeat_interleave(self.cell_px, 3)[:, :, :y, :x]


def _cut_off(module: nn.Module) -> None:
    """Take out of a network, in place, every part whose arrays the last backward pass has not reached."""
    for name, child in list(module.named_children()):
        parameters = list(child.parameters())
        listed = isinstance(child, nn.ModuleList | nn.ModuleDict)  # gone through by name or number before the map is reached
        if parameters and not listed and all(parameter.grad is None for parameter in parameters):
            setattr(module, name, nn.Identity())
        else:
            _cut_off(child)
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.grad is None:
            delattr(module, name)
