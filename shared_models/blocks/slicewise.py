"""A network of slices as a model of the catalogue: the slices of every patient side by side, a class for each of their pixels."""

from __future__ import annotations

from torch import Tensor, nn

from shared_models.blocks.unet import NestedUNet


class Slicewise(nn.Module):
    """Label each slice of a record alone.

    Parameters
    ----------
    network : nn.Module
        From slices (n, 1, y, x) to logits (n, classes, y, x).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (n, classes, k, y, x) of slices (n, k, y, x) in 0..1; while training, those of every head where there are several."""
        count, stack = slices.shape[:2]
        flat = slices.reshape(count * stack, 1, *slices.shape[2:])
        if self.training and isinstance(self.network, NestedUNet):
            return tuple(_stacked(logits, count) for logits in self.network.look(flat))
        return _stacked(self.network(flat), count)


def _stacked(logits: Tensor, count: int) -> Tensor:
    return logits.reshape(count, -1, *logits.shape[1:]).transpose(1, 2)
