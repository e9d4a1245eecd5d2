"""A part of the HU window, stretched: several networks read the same slices and need not the same contrast."""

from __future__ import annotations

from torch import Tensor, nn


class Contrast(nn.Module):
    """Stretch ``low..high`` of values in 0..1 to 0..1 and clip the rest.

    Parameters
    ----------
    low, high : float
        Of 0..1; 0 and 1 change nothing.

    Examples
    --------
    >>> import torch
    >>> Contrast(0.25, 0.75)(torch.tensor([0.0, 0.25, 0.5, 1.0])).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, values: Tensor) -> Tensor:
        """Return the values in their part of the window."""
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1)
