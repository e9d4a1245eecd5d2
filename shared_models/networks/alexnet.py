"""AlexNet over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, NormOrNone
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def alexnet(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 64,
    norm: NormOrNone = "group",
    features: Features = 256,
    dropout: Dropout = 0.5,
) -> nn.Module:
    """Build the five convolutions of AlexNet over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution; 64 is the published one-column net.
    norm : str
        ``group``; ``none`` for published weights. Privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> alexnet(1, 5, width=4, features=8)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.plain_maps import alexnet_maps

    maps, channels = alexnet_maps(inputs, width, norm)
    encoder = MapEncoder(maps, channels, features, inputs=inputs, least_px=SPEC.least_px, name="alexnet")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=alexnet,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=63,
    source="Krizhevsky, Sutskever & Hinton, NeurIPS 2012; in one column: Krizhevsky, arXiv:1404.5997",
)
