"""Bags of slices: an encoder reads each slice, gated attention weighs the slices, a head names the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from shared_models.blocks.layers import GatedAttention, group_norm
from shared_models.blocks.texture import soft_histogram


class SliceEncoder(nn.Module):
    """A slice as a vector: a GroupNorm CNN for shapes, root histograms for intensities.

    GroupNorm takes the level of a slice's intensities away, and in lung CT the level is most of the diagnosis; histograms of the slice and
    of its smoothing keep it. They have no weights, so averaging over sites cannot blur them. The last feature map enters as its mean
    (diffuse disease) and its maximum (focal disease). The first convolution has stride 2: at the working resolution of lung crops a
    full-resolution first stage costs most of the time.

    Parameters
    ----------
    inputs : int
        Channels of a slice.
    widths : tuple of int
        Channels of each stage; every stage halves the resolution.
    features : int
        Length of the vector.
    bins : int
        Bins of each histogram over values 0..1; 0 leaves histograms out.
    """

    centres: Tensor

    def __init__(self, inputs: int, widths: tuple[int, ...], features: int, bins: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = inputs
        for stage, width in enumerate(widths):
            kernel = 5 if stage == 0 else 3
            layers += [nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2, bias=False), group_norm(width), nn.ReLU()]
            before = width
        self.maps = nn.Sequential(*layers)
        self.bins = bins
        if bins:
            self.register_buffer("centres", torch.linspace(0, 1, bins), persistent=False)
        self.project = nn.Linear(2 * before + 2 * bins * inputs, features)

    def forward(self, slices: Tensor) -> Tensor:
        """Return vectors (n, features) of slices (n, inputs, y, x) with values in 0..1."""
        maps = self.maps(slices * 2 - 1)
        parts = [maps.mean((2, 3)), maps.amax((2, 3))]
        if self.bins:
            flat = slices.flatten(0, 1).unsqueeze(1)
            for image in (flat, avg_pool2d(flat, 3, 1)):
                shares = soft_histogram(image, self.centres).unflatten(0, (-1, slices.shape[1])).flatten(1)
                parts.append((shares * self.bins + 1e-4).sqrt())
        return torch.relu(self.project(torch.cat(parts, dim=1)))


class AttentionBag(nn.Module):
    """Encoder, gated attention, dropout and linear head over a bag of slices (n, k, y, x). The label belongs to the bag, the patient.

    With `position` each slice's vector is scaled by a learnt function of its height between the lowest and the highest slice, because
    where disease sits is part of its name; without it the order of the slices does not matter.
    """

    def __init__(self, encoder: nn.Module, features: int, outputs: int, dropout: float, position: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.position = nn.Linear(2, features, bias=False) if position else None
        self.attention = GatedAttention(features, features)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(features, outputs)

    def forward(self, slices: Tensor) -> Tensor:
        """Return logits (n, outputs) of bags (n, k, y, x)."""
        return self.look(slices)[0]

    def look(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, outputs) and the attention weight of each slice (n, k)."""
        k = slices.shape[1]
        bag = self.encoder(slices.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, k))
        if self.position is not None:
            height = torch.linspace(-1, 1, k, device=slices.device, dtype=bag.dtype)
            bag = bag * (1 + self.position(torch.stack([height, height**2], dim=1)))
        pooled, weights = self.attention(bag)
        return self.head(self.drop(pooled)), weights
