"""A support vector machine with a Gaussian kernel as the last layer of a network: Fourier features that every site makes alike, and a hinge."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

SEED = 2007
"""Of directions and phases: the same at every site, so that they need not travel."""


class KernelHead(nn.Module):
    """Margins of one class against the rest, linear in ``sqrt(2 / d) cos(W x + b)``: products of these come near to ``exp(-gamma |a - b|^2)``.

    Rows are scaled to have mean 0 and variance 1 (each by itself), so that one `gamma` serves while the features are still being learnt.

    Parameters
    ----------
    inputs, outputs : int
        Length of a row, and classes.
    features : int
        How many Fourier features (1024 in the specification).
    gamma : float
        Width of the kernel, over the number of columns.

    Notes
    -----
    Rahimi & Recht, NeurIPS 2007.
    """

    directions: Tensor
    phases: Tensor

    def __init__(self, inputs: int, outputs: int, *, features: int, gamma: float) -> None:
        super().__init__()
        generator = np.random.default_rng(SEED)
        directions = generator.normal(0, math.sqrt(2 * gamma / inputs), (features, inputs))
        phases = generator.uniform(0, 2 * math.pi, features)
        self.register_buffer("directions", torch.tensor(directions, dtype=torch.float32), persistent=False)
        self.register_buffer("phases", torch.tensor(phases, dtype=torch.float32), persistent=False)
        self.scale = nn.LayerNorm(inputs, elementwise_affine=False)
        self.margins = nn.Linear(features, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Return margins (n, outputs) of rows (n, inputs)."""
        waves = torch.cos(nn.functional.linear(self.scale(rows), self.directions, self.phases))
        return self.margins(waves * math.sqrt(2 / len(self.phases)))


def squared_hinge(margins: Tensor, labels: Tensor) -> Tensor:
    """Return ``sum_c max(0, 1 - s_c m_c)^2`` of each sample, with s = 1 for its class and -1 for the others, shape (n,).

    Examples
    --------
    >>> squared_hinge(torch.tensor([[2.0, -1.0], [0.0, 0.0]]), torch.tensor([0, 0])).tolist()
    [0.0, 2.0]
    """
    signs = 2 * nn.functional.one_hot(labels, margins.shape[1]).to(margins.dtype) - 1
    return (1 - signs * margins).clamp(min=0).square().sum(1)
