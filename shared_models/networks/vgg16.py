"""VGG-16 over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, NormOrNone
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def vgg16(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 64,
    norm: NormOrNone = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build the convolutions of VGG-16 over slices (n, k, y, x), lifted to patients by a bag.

    Instead of the published fully connected layers of 4096 units the last map is averaged: 15 million weights at full width instead of 138,
    which every round would carry, and any size of slice.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first block; 64 is the published net.
    norm : str
        ``group``; ``none`` as published, ``batch`` as in later weights. Privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> vgg16(1, 3, width=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 3])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.plain_maps import vgg_maps

    maps, channels = vgg_maps(inputs, 16, width, norm)
    encoder = MapEncoder(maps, channels, features, inputs=inputs, least_px=SPEC.least_px, name="vgg16")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=vgg16,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="Simonyan & Zisserman, Very deep convolutional networks, ICLR 2015; for ILD: Kiziloglu et al., CMIR 20, 2024",
)
