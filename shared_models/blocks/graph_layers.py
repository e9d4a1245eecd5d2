"""Layers on the graph of the lungs' regions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from shared_models.blocks.lung_grid import NODES, neighbours, positions


class Heard(nn.Module):
    """``relu(W h_i + V mean_j h_j + b)`` at each node i with neighbours j."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, mean: Tensor) -> Tensor:
        """Return the nodes' answers (n, nodes, outputs); `mean` (nodes, nodes) takes the mean over neighbours."""
        return self.dropout(torch.relu(self.own(h) + self.others(mean @ h)))


class LungGraph(nn.Module):
    """Layers of `Heard` over the 36 regions, then a linear classifier of the mean and the largest answer over regions."""

    mean: Tensor
    places: Tensor

    def __init__(self, features: int, outputs: int, *, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        touching, places = neighbours(), positions()
        self.register_buffer("mean", torch.from_numpy(touching / touching.sum(1, keepdims=True)).float(), persistent=False)
        self.register_buffer("places", torch.from_numpy(places).float(), persistent=False)
        widths = [features + places.shape[1], *[width] * depth]
        self.layers = nn.ModuleList(Heard(a, b, dropout) for a, b in pairwise(widths))
        self.classifier = nn.Linear(2 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of rows (n, 36 * features)."""
        h = x.reshape(len(x), NODES, -1)
        h = torch.cat([h, self.places.to(h.dtype).expand(len(x), -1, -1)], dim=2)
        for layer in self.layers:
            h = layer(h, self.mean.to(h.dtype))
        return self.classifier(torch.cat([h.mean(1), h.amax(1)], dim=1))
