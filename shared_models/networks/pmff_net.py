"""PMFF-Net: branches of several resolutions side by side over lung slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def pmff_net(
    inputs: int,
    outputs: int,
    *,
    widths: Annotated[tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=2, max_length=4)] = (64, 128, 256),
    blocks: Annotated[int, Field(ge=1, le=8)] = 3,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.5,
) -> nn.Module:
    """Build the parallel multi-scale feature fusion network over slices (n, k, y, x), lifted to patients by a bag.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    widths : tuple of int
        Channels of each branch, from full to coarsest resolution.
    blocks : int
        Dilated residual blocks of a branch; the branches exchange what they see after each.
    norm : str
        ``group``, or ``batch`` for published weights; privacy of patients refuses ``batch``.
    features : int
        Length of a slice's vector in the bag.
    dropout : float
        Of the pooled vector while training.

    Examples
    --------
    >>> import torch
    >>> pmff_net(1, 4, widths=(4, 4, 8), blocks=1, features=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 4])
    """
    from shared_models.blocks.bags import AttentionBag
    from shared_models.blocks.encoders import MapEncoder
    from shared_models.blocks.fusion_maps import ParallelScaleMaps

    maps = ParallelScaleMaps(inputs, tuple(widths), blocks, norm)
    encoder = MapEncoder(maps, maps.channels, features, inputs=inputs, least_px=SPEC.least_px, name="pmff_net")
    return AttentionBag(encoder, features, outputs, dropout, position=True)


SPEC = ModelSpec(
    build=pmff_net,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    least_px=16,
    source="Xu et al., Parallel multi-scale feature fusion network, Comput Biol Med 195:110618, 2025: architecture ours",
)
