"""Groups of columns that come from one examination: an encoder each, values and whole groups that may be missing, three ways to fuse them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ColumnEncoder(nn.Module):
    """A group of columns as a vector: each value beside whether it is known, through two layers.

    Parameters
    ----------
    columns : int
        Of the group.
    hidden, width : int
        Of the layer between, and of the vector.
    """

    def __init__(self, columns: int, hidden: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * columns, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.ReLU())

    def forward(self, filled: Tensor, known: Tensor) -> Tensor:
        """Return vectors (n, width) of values (n, columns), 0 where they are not `known` (n, columns)."""
        return self.layers(torch.cat([filled, known.to(filled.dtype)], dim=1))


class Modalities(nn.Module):
    """Encode each group of columns and fuse what is present.

    A group without a known value is absent: it adds nothing to any sum, has no share of the attention, and its encoder gets no gradient from the
    record. So a site that never makes an examination trains all the rest. While training, each group that is present is dropped with a
    probability, never all of them, so that no group is relied on.

    Parameters
    ----------
    sizes : tuple of int
        Columns of each group, in the order of the columns.
    outputs : int
        Classes.
    width, hidden : int
        Of a group's vector, and of its encoder's inner layer.
    fusion : str
        ``concat`` mixes the vectors side by side; ``attention`` mixes their gated-attention mean; ``late`` sums the logits of each group alone.
    dropout, modality_dropout : float
        Of the fused vector's features, and of whole groups.
    """

    def __init__(
        self, sizes: tuple[int, ...], outputs: int, *, width: int, hidden: int, fusion: str, dropout: float, modality_dropout: float
    ) -> None:
        super().__init__()
        self.sizes, self.fusion, self.modality_dropout = sizes, fusion, modality_dropout
        self.encoders = nn.ModuleList(ColumnEncoder(size, hidden, width) for size in sizes)
        groups = len(sizes)
        if fusion == "attention":
            self.tanh, self.gate, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
        mixed = {"concat": groups * (width + 1), "attention": width}.get(fusion)
        self.mix = nn.Identity() if mixed is None else nn.Sequential(nn.Linear(mixed, width), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(groups * width if mixed is None else width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (n, outputs) of rows (n, columns), NaN where a value is missing."""
        known = ~torch.isnan(rows)
        filled = torch.where(known, rows, torch.zeros_like(rows))
        present = torch.stack([part.any(1) for part in known.split(self.sizes, 1)], dim=1)
        if self.training and self.modality_dropout:
            kept = present & (torch.rand(present.shape, device=rows.device) >= self.modality_dropout)
            present = torch.where(kept.any(1, keepdim=True), kept, present)
        parts = zip(self.encoders, filled.split(self.sizes, 1), known.split(self.sizes, 1), strict=True)
        here = present.to(rows.dtype)
        vectors = torch.stack([encoder(*part) for encoder, *part in parts], dim=1) * here.unsqueeze(-1)
        if self.fusion == "attention":
            fused = torch.einsum("ng,ngw->nw", self.weights(vectors, present), vectors)
        else:
            fused = vectors.flatten(1) if self.fusion == "late" else torch.cat([vectors.flatten(1), here], dim=1)
        # one linear layer over the vectors side by side is the sum of the logits of each group alone: no group bends what another says
        return self.head(self.drop(self.mix(fused)))

    def weights(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Return the share of the attention of each group (n, groups), summing to 1 over those present; all 0 where none is."""
        scores = self.score(torch.tanh(self.tanh(vectors)) * torch.sigmoid(self.gate(vectors))).squeeze(-1)
        scores = torch.where(present, scores, torch.full_like(scores, -1e9))
        return torch.softmax(scores, dim=1) * present.to(scores.dtype)
