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

SHRINK_YEARS2 = 0.1
"""Added to the spread of a column's visits in time where its trend is read: visits half a year apart tell a change a year with much error."""


def trend_of(years: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Return the change a year of each column (n, columns): the slope of least squares over the visits where it is known, drawn towards 0.

    ``sum (t - mean t) v / (sum (t - mean t)^2 + SHRINK_YEARS2)`` for times (n, visits), values and `known` (n, visits, columns); 0 where a column
    is known once or never. Source: ridge regression (Hoerl & Kennard, Technometrics 1970;12:55) with a free intercept.

    Examples
    --------
    >>> years, values = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[[5.0], [7.0], [9.0]]])
    >>> round(float(trend_of(years, values, torch.ones(1, 3, 1, dtype=torch.bool))), 4)
    1.9048
    """
    here = known.to(values.dtype)
    when = torch.where(known, years[..., None], torch.zeros_like(values))
    found = torch.where(known, values, torch.zeros_like(values))
    times = here.sum(1, keepdim=True).clamp(min=1)
    off = (when - when.sum(1, keepdim=True) / times) * here
    return (off * found).sum(1) / ((off**2).sum(1) + SHRINK_YEARS2)


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

    A linear path beside the attention reads the first values and each column's trend (the wide part of Cheng et al., Wide & Deep Learning, DLRS
    2016): few patients teach attention to take differences, and a slope needs no lesson. Beside it the attention's head starts at zero, so that the
    path may be taught first and alone (``[[stages]]``), and the attention then what it leaves (a residue from zero: Zhang et al., Fixup, ICLR 2019).
    The first `proportional` outputs, hazards of intervals, share one score and differ by a constant each: the odds of all intervals are proportional
    (Cox, J R Stat Soc B 1972;34:187, section 6).

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
    trend : bool
        False leaves the linear path out.
    trend_columns : int
        Columns, from the first on, that the linear path reads; 0 for all.
    proportional : int
        Outputs, from the first on, that share one score; 0 gives each its own.
    """

    def __init__(
        self,
        columns: int,
        outputs: int,
        *,
        visits: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
        history: bool,
        trend: bool = True,
        trend_columns: int = 0,
        proportional: int = 0,
    ) -> None:
        super().__init__()
        self.visits, self.history, self.read = visits, history, trend_columns or columns
        self.encoder, self.time = ColumnEncoder(2 * columns, hidden, width), YearsCode(width)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        scores = outputs - max(0, proportional - 1)
        self.norm, self.drop, self.head = nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, scores)
        self.trend = nn.Linear(2 * self.read, scores, bias=False) if trend else None
        if self.trend is not None:
            nn.init.zeros_(self.trend.weight)
            # while the path learns alone, a head drawn at random would be noise in every risk
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.constants = nn.Parameter(torch.zeros(proportional)) if proportional else None

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
        start, own = values.gather(1, first[..., None].expand(-1, 1, values.shape[2])), values
        change = CHANGE * (values - start)
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
        scores = self.head(self.drop(self.norm(tokens[:, 0])))
        if self.trend is not None:
            slopes = CHANGE * trend_of(years, own[..., : self.read], known[..., : self.read])
            at_start = start[:, 0, : self.read]
            seen = ~torch.isnan(at_start) & happened.any(1, keepdim=True)
            scores = scores + self.trend(torch.cat([torch.where(seen, at_start, torch.zeros_like(at_start)), slopes], dim=1))
        if self.constants is not None:
            scores = torch.cat([scores[:, :1] + self.constants, scores[:, 1:]], dim=1)
        return scores, weights.mean(1)[:, 0, 1:]
