"""Inception-ResNet-v2 over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

Blocks = Annotated[int, Field(ge=0, le=40)]


def inception_resnet_v2(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=32, multiple_of=4)] = 32,
    blocks: tuple[Blocks, Blocks, Blocks] = (10, 20, 9),
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.2,
) -> nn.Module:
    """Build Inception-ResNet-v2 over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution; 32 is the published net.
    blocks : tuple of int
        Residual inceptions at 1/8, 1/16 and 1/32 of the resolution; one more without ReLU follows the last.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> inception_resnet_v2(1, 5, width=4, blocks=(1, 1, 1), features=8)(torch.zeros(1, 2, 75, 75)).shape
    torch.Size([1, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.inception_residual_maps import inception_residual_maps

    maps, channels = inception_residual_maps(inputs, blocks, width, norm)
    encoder = MapEncoder(maps, channels, features, inputs=inputs, least_px=SPEC.least_px, name="inception_resnet_v2")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=inception_resnet_v2,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=75,
    source="Szegedy et al., Inception-v4, Inception-ResNet and the impact of residual connections, AAAI 2017",
)
