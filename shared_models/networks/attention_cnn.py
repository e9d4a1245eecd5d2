"""A small convolutional network with attention over channels and places, over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def attention_cnn(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = 32,
    norm: Norm = "group",
    features: Features = 128,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build four stages of convolution, block attention and halving over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first stage; each later stage doubles them.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> attention_cnn(1, 5, width=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.channel_attention import attention_maps
    from shared_models.blocks.encoders import MapEncoder

    encoder = MapEncoder(attention_maps(inputs, width, norm), 8 * width, features, inputs=inputs, least_px=SPEC.least_px, name="attention_cnn")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=attention_cnn,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=16,
    source="Woo et al., CBAM: Convolutional block attention module, ECCV 2018; for ILD: Kumarganesh et al., SASC 7:200228, 2025",
)
