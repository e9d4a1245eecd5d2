"""DenseNet in three dimensions, from MONAI, with GroupNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def densenet121(
    inputs: int,
    outputs: int,
    *,
    growth_rate: Annotated[int, Field(ge=4, le=64)] = 32,
    first_features: Annotated[int, Field(ge=8, le=128)] = 64,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> nn.Module:
    """Build DenseNet-121 over volumes (n, inputs, z, y, x): four dense blocks of 6, 12, 24 and 16 layers.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    growth_rate : int
        Feature maps that each layer adds.
    first_features : int
        Feature maps of the first convolution.
    dropout : float
        Dropout after each dense layer.

    Examples
    --------
    >>> import torch
    >>> densenet121(1, 5, growth_rate=4, first_features=8)(torch.zeros(1, 1, 32, 32, 32)).shape
    torch.Size([1, 5])
    """
    from monai.networks.nets.densenet import DenseNet121

    from shared_models.blocks.layers import without_batch_norm

    net = DenseNet121(
        spatial_dims=3, in_channels=inputs, out_channels=outputs, init_features=first_features, growth_rate=growth_rate, dropout_prob=dropout
    )
    return without_batch_norm(net)


SPEC = ModelSpec(
    build=densenet121,
    takes="volume",
    fit="gradient",
    loss=cross_entropy,
    feature_map="features",
    representation="class_layers.out",
    source="Huang et al., Densely connected convolutional networks, CVPR 2017",
)
