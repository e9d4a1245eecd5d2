"""A transformer over a patient's visits: what was found at each, when that was, and visits that did not happen."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared_models.blocks.modalities import ColumnEncoder
from shared_models.blocks.transformer import EncoderLayer

SHORTEST_YEARS, LONGEST_YEARS = 0.5, 32.0
"""Periods of the first and the last wave of the code of time: visits are months to decades apart."""

CHANGE = 5.0
"""Factor on what changed since the first visit, in units of a column's range: patients differ from one another more than from themselves."""


class YearsCode(nn.Module):
    """A time as a vector: sines and cosines of periods from `SHORTEST_YEARS` to `LONGEST_YEARS`, and the time itself, through a linear layer.

    Source: the code of places of Vaswani et al., NeurIPS 2017, 3.5, read at real times; the linear part: Kazemi et al., Time2Vec, arXiv:1907.05321.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.waves = max(1, width // 4)
        self.mix = nn.Linear(2 * self.waves + 1, width)

    def forward(self, years: Tensor) -> Tensor:
        """Return codes (..., width) of times (...) in years."""
        steps = torch.arange(self.waves, dtype=years.dtype, device=years.device) / max(1, self.waves - 1)
        periods = SHORTEST_YEARS * (LONGEST_YEARS / SHORTEST_YEARS) ** steps
        angles = years[..., None] * (2 * math.pi / periods)
        return self.mix(torch.cat([torch.sin(angles), torch.cos(angles), years[..., None]], dim=-1))


class VisitTransformer(nn.Module):
    """Read the visits of a patient as a set of tokens: what was found, its change since the first visit, when; a class token gathers them.

    A visit without a time did not happen: nobody attends to it, and whatever stands in its columns changes nothing. No token knows its place in the
    row, so that visits together with their times may come in any order.

    Parameters
    ----------
    columns : int
        Values of a visit beside its time.
    outputs : int
        Logits.
    visits : int
        Most visits of a patient.
    width, layers, heads : int
        Of the transformer; `width` divides by `heads`.
    hidden : int
        Width of the inner layer of the encoder of a visit's values.
    dropout : float
        Of the layers, and of the gathered vector's features.
    history : bool
        False shows the first visit alone: the ablation of everything later.
    """

    def __init__(
        self, columns: int, outputs: int, *, visits: int, width: int, layers: int, heads: int, hidden: int, dropout: float, history: bool
    ) -> None:
        super().__init__()
        self.visits, self.history = visits, history
        self.encoder, self.time = ColumnEncoder(2 * columns, hidden, width), YearsCode(width)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        self.norm, self.drop, self.head = nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (n, outputs) of rows (n, visits * (1 + columns)): of each visit its years since the first and its values, NaN if missing."""
        return self.look(rows)[0]

    def look(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and what the class token attends to in the last layer (n, visits), without the share that it keeps for itself."""
        each = rows.unflatten(1, (self.visits, -1))
        years, values = each[..., 0], each[..., 1:]
        happened = ~torch.isnan(years)
        first = torch.where(happened, years, torch.inf).argmin(1, keepdim=True)
        if not self.history:
            happened = happened & (years <= years.gather(1, first))
        change = CHANGE * (values - values.gather(1, first[..., None].expand(-1, 1, values.shape[2])))
        values = torch.cat([values, change], dim=2)
        known = ~torch.isnan(values) & happened[..., None]
        filled = torch.where(known, values, torch.zeros_like(values))
        when = self.time(torch.where(happened, years, torch.zeros_like(years)))
        # one encoder for all visits of all patients: what a value means does not hang on when it was measured
        found = self.encoder(filled.flatten(0, 1), known.flatten(0, 1)).unflatten(0, (-1, each.shape[1]))
        tokens = torch.cat([self.token.expand(rows.shape[0], -1, -1), found + when], dim=1)
        there = torch.cat([torch.ones_like(happened[:, :1]), happened], dim=1)
        weights = tokens.new_zeros(0)
        for layer in self.layers:
            tokens, weights = layer(tokens, there)
        return self.head(self.drop(self.norm(tokens[:, 0]))), weights.mean(1)[:, 0, 1:]
