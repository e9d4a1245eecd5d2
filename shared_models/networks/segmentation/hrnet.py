"""HRNet over slices: high resolution throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.segmentation import SegmentationSpec, slice_loss

if TYPE_CHECKING:
    from torch import nn


def hrnet(
    inputs: int,
    outputs: int,
    *,
    widths: Annotated[tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=2, max_length=5)] = (8, 16, 32, 64),
    blocks: Annotated[int, Field(ge=1, le=8)] = 1,
) -> nn.Module:
    """Build an HRNet over slices (n, inputs, y, x) in 0..1; logits (n, outputs, y, x).

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes, background included.
    widths : tuple of int
        Channels of each stream, from the finest; each is half as fine as the one before (18, 36, 72, 144 is the published W18).
    blocks : int
        Residual blocks a stream and stage.

    Examples
    --------
    >>> import torch
    >>> hrnet(1, 2, widths=(4, 8))(torch.zeros(1, 1, 15, 10)).shape
    torch.Size([1, 2, 15, 10])
    """
    from shared_models.blocks.hrnet import HRNet

    return HRNet(inputs, outputs, tuple(widths), blocks)


SPEC = SegmentationSpec(
    build=hrnet,
    loss=slice_loss,
    source="Wang et al., Deep high-resolution representation learning for visual recognition, IEEE Trans Pattern Anal Mach Intell 2021",
)
