"""ResNet-50 over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def resnet50(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 64,
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=36)], ...], Field(min_length=4, max_length=4)] = (3, 4, 6, 3),
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build ResNet-50 in two dimensions over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution; 64 is the published net.
    blocks : tuple of int
        Bottlenecks of each stage; (3, 4, 23, 3) is ResNet-101.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> resnet50(1, 5, width=4, blocks=(1, 1, 1, 1), features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.residual_maps import ResidualMaps

    maps = ResidualMaps(inputs, tuple(blocks), width, norm)
    encoder = MapEncoder(maps, maps.channels, features, inputs=inputs, least_px=SPEC.least_px, name="resnet50")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=resnet50,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="He et al., Deep residual learning for image recognition, CVPR 2016; for ILD: Pawar & Talbar, BMRI 2022; Jadhav, IJPER 58, 2024",
)
