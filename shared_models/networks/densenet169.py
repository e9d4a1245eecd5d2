"""DenseNet-169 over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def densenet169(
    inputs: int,
    outputs: int,
    *,
    layers: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=4)] = (6, 12, 32, 32),
    growth_rate: Annotated[int, Field(ge=4, le=64)] = 32,
    first_features: Annotated[int, Field(ge=8, le=128)] = 64,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build DenseNet-169 in two dimensions over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    layers : tuple of int
        Dense layers of each block; (6, 12, 24, 16) is DenseNet-121.
    growth_rate, first_features : int
        Channels that a dense layer adds, and of the first convolution.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> densenet169(1, 5, layers=(1, 1, 1, 1), growth_rate=4, first_features=8, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.dense_maps import DenseMaps
    from shared_models.blocks.encoders import MapEncoder

    maps = DenseMaps(inputs, tuple(layers), growth=growth_rate, first=first_features, norm=norm)
    encoder = MapEncoder(maps, maps.channels, features, inputs=inputs, least_px=SPEC.least_px, name="densenet169")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=densenet169,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="Huang et al., Densely connected convolutional networks, CVPR 2017",
)
