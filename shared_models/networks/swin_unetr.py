"""The encoder of SwinUNETR, a Swin transformer over volumes, and one linear layer on the mean of its last stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn


def swin_unetr(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=6, le=96)] = 48,
    patch: Annotated[int, Field(ge=2, le=8)] = 2,
    window: Annotated[int, Field(ge=2, le=9)] = 7,
    depths: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(min_length=4, max_length=4)] = (2, 2, 2, 2),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> nn.Module:
    """Build the encoder of SwinUNETR over volumes (n, inputs, z, y, x): small cubes of voxels, four stages that each halve the grid.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes.
    width : int
        Features of the first stage, a multiple of 3 (as many as the heads of attention); each later stage has twice as many. 48 is published.
    patch : int
        Side of the cubes, voxels; 2 is published.
    window : int
        Side of the windows inside which places attend to one another.
    depths : tuple of int
        Blocks of each stage; every other one shifts its windows.
    dropout : float
        Before the linear layer.

    Raises
    ------
    BadChoice
        A width that is no multiple of 3.

    Examples
    --------
    >>> import torch
    >>> swin_unetr(1, 5, width=6, patch=4, window=2, depths=(1, 1, 1, 1))(torch.zeros(1, 1, 16, 16, 16)).shape
    torch.Size([1, 5])
    """
    if width % 3:
        raise BadChoice("the width of a Swin transformer is a multiple of its 3 heads", value=width, remedy=f"width = {3 * round(width / 3)}")
    from shared_models.blocks.swin import swin_classifier

    return swin_classifier(inputs, outputs, width=width, patch=patch, window=window, depths=depths, dropout=dropout)


SPEC = ModelSpec(
    build=swin_unetr,
    takes="volume",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder",
    representation="head",
    source="Hatamizadeh et al., Swin UNETR, BrainLes 2021 (LNCS 12962:272); Tang et al., CVPR 2022; shifted windows: Liu et al., ICCV 2021",
)
