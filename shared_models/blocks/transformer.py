"""A vision transformer over the places of a feature map, or over square pieces of a slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared_models.blocks.encoders import InputScale, refuse_small
from shared_models.core.errors import BadChoice


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al., NeurIPS 2017, equation 1), written out so that its weights can be looked at."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return tokens (n, t, width) and the attention (n, heads, t, t), whose rows sum to 1.

        `there` (n, t) is the key-padding mask: False where a token is only filled up, at which nobody then looks.
        """
        query, key, value = self.ask(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        if there is not None:
            scores = scores.masked_fill(~there[:, None, None, :], -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2)), weights


class EncoderLayer(nn.Module):
    """Pre-norm layer: attention and a perceptron of twice the width, each beside a shortcut (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.between = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return tokens (n, t, width) and the attention (n, heads, t, t); `there` as in `SelfAttention`."""
        seen, weights = self.attention(self.before(tokens), there)
        tokens = tokens + self.drop(seen)
        return tokens + self.drop(self.perceptron(self.between(tokens))), weights


class TransformerEncoder(nn.Module):
    """A slice as a vector: tokens from a trunk's map, a class token, learnt places, encoder layers; the class token is the vector.

    Parameters
    ----------
    trunk : nn.Module
        From (n, inputs, y, x) to maps (n, channels, y', x').
    channels : int
        Of that map.
    width, layers, heads : int
        Of the transformer; `width` divides by `heads`.
    grid : int
        The learnt places form a ``grid`` x ``grid`` map, which is interpolated to the tokens of a slice: any size is taken.
    place : bool
        False leaves the places out: the ablation of positional encoding.
    inputs, least_px, name
        As in `MapEncoder`.
    """

    def __init__(
        self,
        trunk: nn.Module,
        channels: int,
        *,
        width: int,
        layers: int,
        heads: int,
        grid: int,
        place: bool,
        dropout: float,
        inputs: int,
        least_px: int,
        name: str,
    ) -> None:
        super().__init__()
        self.scale, self.trunk = InputScale(inputs), trunk
        self.project = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, width, grid, grid)) if place else None
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        self.maps, self.norm = nn.Identity(), nn.LayerNorm(width)
        self.least_px, self.name = least_px, name

    def forward(self, slices: Tensor) -> Tensor:
        """Return vectors (n, width) of slices (n, 1 or inputs, y, x) with values in 0..1."""
        return self.look(slices)[0]

    def look(self, slices: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the vectors and the attention of every layer (n, heads, t, t), t being 1 for the class token plus the places row by row."""
        refuse_small(slices, self.least_px, self.name)
        maps = self.project(self.trunk(self.scale(slices)))
        if self.places is not None:
            maps = maps + interpolate(self.places, size=maps.shape[2:], mode="bilinear", align_corners=False)
        seen: list[Tensor] = []
        tokens = self.drop(torch.cat([self.token.expand(maps.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], dim=1))
        for number, layer in enumerate(self.layers):
            if number == len(self.layers) - 1:
                # the last map that the class token still reads: class activation maps look here
                here = self.maps(tokens[:, 1:].transpose(1, 2).unflatten(2, maps.shape[2:]))
                tokens = torch.cat([tokens[:, :1], here.flatten(2).transpose(1, 2)], dim=1)
            tokens, weights = layer(tokens)
            seen.append(weights)
        return self.norm(tokens[:, 0]), seen


def divided(width: int, heads: int) -> int:
    """Return `width`.

    Raises
    ------
    BadChoice
        The heads do not share it evenly.
    """
    if width % heads:
        raise BadChoice("the heads of a transformer share its width evenly", value=f"width {width}, heads {heads}", remedy="set model.heads = 4")
    return width
