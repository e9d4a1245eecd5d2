"""GoogLeNet over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def googlenet(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 64,
    wide: Literal[3, 5] = 5,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.2,
) -> nn.Module:
    """Build GoogLeNet's nine inceptions over slices (n, k, y, x), without its auxiliary classifiers, lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution; 64 is the published net.
    wide : int
        Kernel of an inception's wide branch: 5 in the paper, 3 in the weights that PyTorch publishes.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> googlenet(1, 5, width=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.inception_maps import GoogLeNetMaps

    maps = GoogLeNetMaps(inputs, width, wide, norm)
    encoder = MapEncoder(maps, maps.channels, features, inputs=inputs, least_px=SPEC.least_px, name="googlenet")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=googlenet,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="Szegedy et al., Going deeper with convolutions, CVPR 2015",
)
