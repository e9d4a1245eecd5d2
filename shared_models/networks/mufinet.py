"""MufiNet: kernels of several sizes side by side over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def mufinet(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 32,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
) -> nn.Module:
    """Build MufiNet over slices (n, k, y, x): stems of 3x3, 5x5 and 7x7, four multi-kernel residual blocks with channel gates, a bag.

    The name is not expanded in what is known of the paper; it is read as a network that fuses multiple filters.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width : int
        Channels of each stem; the blocks have 2, 4, 8 and 16 times as many.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> mufinet(1, 5, width=4, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.fusion_maps import MultiKernelMaps

    maps = MultiKernelMaps(inputs, width, norm)
    encoder = MapEncoder(maps, maps.channels, features, inputs=inputs, least_px=SPEC.least_px, name="mufinet")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=mufinet,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=16,
    source="Nair et al., Enhanced visual insights and diagnosis of ILD via Mufinet-DCGAN framework, EASR 52(4), 2025: architecture ours",
)
