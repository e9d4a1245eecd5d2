"""MobileUNetV3 with a refined attention pyramid, over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def mobile_unet_v3(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 16,
    pyramid: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = 64,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.2,
    refined: bool = True,
) -> nn.Module:
    """Build MobileNetV3-Small with an attention pyramid and a light decoder over slices (n, k, y, x), lifted to patients by a bag.

    Neither MobileUNetV3 nor RAPNet is a published architecture: what is known are their names and their order.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of the first convolution; 16 is the published MobileNetV3-Small.
    pyramid : int
        Channels of the pyramid and the decoder.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.
    refined : bool
        Whether the attention pyramid enters a slice's vector.

    Examples
    --------
    >>> import torch
    >>> mobile_unet_v3(1, 5, width=4, pyramid=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.mobile_maps import MobileUNetEncoder

    encoder = MobileUNetEncoder(inputs, width, pyramid, norm, features, least_px=SPEC.least_px, refined=refined)
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=mobile_unet_v3,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=32,
    source="Vinta et al., IEEE Access 12:50444, 2024: architecture ours; trunk: Howard et al., Searching for MobileNetV3, ICCV 2019",
)
