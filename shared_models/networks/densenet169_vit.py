"""The hybrid of DenseNet-169 and a vision transformer over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def densenet169_vit(
    inputs: int,
    outputs: int,
    *,
    layers: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=4)] = (6, 12, 32, 32),
    growth_rate: Annotated[int, Field(ge=4, le=64)] = 32,
    first_features: Annotated[int, Field(ge=8, le=128)] = 64,
    norm: Norm = "group",
    width: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 256,
    depth: Annotated[int, Field(ge=1, le=32)] = 4,
    heads: Annotated[int, Field(ge=1, le=16)] = 8,
    grid: Annotated[int, Field(ge=1, le=64)] = 7,
    place: bool = True,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build a transformer over the places of DenseNet-169's last map, for slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    layers : tuple of int
        Dense layers of each block of the trunk.
    growth_rate, first_features : int
        Channels that a dense layer adds, and of the first convolution.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
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
    >>> small = {"layers": (1, 1, 1, 1), "growth_rate": 4, "first_features": 8, "width": 16, "depth": 1, "heads": 2}
    >>> densenet169_vit(1, 4, **small)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 4])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.dense_maps import DenseMaps
    from shared_models.blocks.transformer import TransformerEncoder, divided

    trunk = DenseMaps(inputs, tuple(layers), growth=growth_rate, first=first_features, norm=norm)
    encoder = TransformerEncoder(
        trunk,
        trunk.channels,
        width=divided(width, heads),
        layers=depth,
        heads=heads,
        grid=grid,
        place=place,
        dropout=dropout,
        inputs=inputs,
        least_px=SPEC.least_px,
        name="densenet169_vit",
    )
    return AttentionBag(encoder, width, outputs, dropout, position=place)


SPEC = ModelSpec(
    build=densenet169_vit,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="Saha & Saha, Procedia Computer Science 235, 2024; trunk: Huang et al., CVPR 2017; transformer: Dosovitskiy et al., ICLR 2021",
)
