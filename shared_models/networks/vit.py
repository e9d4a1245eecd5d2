"""A plain vision transformer over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def vit(
    inputs: int,
    outputs: int,
    *,
    patch: Annotated[int, Field(ge=2, le=64)] = 16,
    width: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 256,
    depth: Annotated[int, Field(ge=1, le=32)] = 6,
    heads: Annotated[int, Field(ge=1, le=16)] = 8,
    grid: Annotated[int, Field(ge=1, le=64)] = 14,
    place: bool = True,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build a vision transformer over slices (n, k, y, x): a token for each square piece, lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    patch : int
        Rows and columns of a piece; smaller slices are refused.
    width, depth, heads : int
        Length of a token, layers, and heads of each; `heads` divides `width`.
    grid : int
        Learnt places form a map of this side, interpolated to a slice's tokens.
    place : bool
        Let the place of a token in its slice count, and the height of a slice in the lungs; False leaves both out, to see what they add.
    dropout : float
        In the transformer, and of the pooled vector.

    Examples
    --------
    >>> import torch
    >>> vit(1, 4, patch=8, width=16, depth=1, heads=2)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 4])
    """
    from torch import nn

    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.transformer import TransformerEncoder, divided

    encoder = TransformerEncoder(
        nn.Conv2d(inputs, width, patch, stride=patch),
        width,
        width=divided(width, heads),
        layers=depth,
        heads=heads,
        grid=grid,
        place=place,
        dropout=dropout,
        inputs=inputs,
        least_px=patch,
        name="vit",
    )
    return AttentionBag(encoder, width, outputs, dropout, position=place)


SPEC = ModelSpec(
    build=vit,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=2,
    source="Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021; for ILD: Saha & Saha, Procedia Computer Science 235, 2024",
)
