"""U-Net over slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.segmentation import SegmentationSpec, slice_loss

if TYPE_CHECKING:
    from torch import nn

Widths = Annotated[tuple[Annotated[int, Field(ge=4, le=1024)], ...], Field(min_length=2, max_length=6)]


def unet(inputs: int, outputs: int, *, widths: Widths = (16, 32, 64, 128), dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> nn.Module:
    """Build a U-Net over slices (n, inputs, y, x) in 0..1; logits (n, outputs, y, x).

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes, background included.
    widths : tuple of int
        Channels of each level (64 to 1024 in five levels in the paper); every level halves the resolution.
    dropout : float
        Dropout of whole maps in the decoder.

    Examples
    --------
    >>> import torch
    >>> unet(1, 2, widths=(4, 8))(torch.zeros(1, 1, 15, 10)).shape
    torch.Size([1, 2, 15, 10])
    """
    from shared_models.blocks.unet import UNet

    return UNet(inputs, outputs, tuple(widths), dropout=dropout)


SPEC = SegmentationSpec(
    build=unet,
    loss=slice_loss,
    source="Ronneberger, Fischer & Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015",
)
