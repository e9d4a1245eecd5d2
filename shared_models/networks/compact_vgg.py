"""The compact VGG over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, NormOrNone
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def compact_vgg(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 32,
    norm: NormOrNone = "group",
    features: Features = 256,
    dropout: Dropout = 0.25,
) -> nn.Module:
    """Build the compact VGG over slices (n, k, y, x): 32, 64, 64, 128 and 128 channels in three blocks, lifted to patients by a bag.

    Its logits are one number a class, independent of one another: `shared_models.blocks.losses.binary_cross_entropy` trains them for several
    findings at once, as the paper does. The published fully connected layer of 1024 units (8.4 of 8.7 million weights) gives way to a mean.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution.
    norm : str
        ``group``, ``batch`` as in the paper, or ``none``. Privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> compact_vgg(1, 17, width=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 17])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.plain_maps import compact_vgg_maps

    maps, channels = compact_vgg_maps(inputs, width, norm, dropout)
    encoder = MapEncoder(maps, channels, features, inputs=inputs, least_px=SPEC.least_px, name="compact_vgg")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=compact_vgg,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=12,
    source="Raju, Anita & Augustine, Identification of interstitial lung diseases using deep learning, IJECE 10(6), 2020",
)
