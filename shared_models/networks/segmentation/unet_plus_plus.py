"""U-Net++ over slices: nested dense skips and deep supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_models.blocks.segmentation import SegmentationSpec
from shared_models.networks.segmentation.unet import Widths

if TYPE_CHECKING:
    from torch import Tensor, nn


def unet_plus_plus(inputs: int, outputs: int, *, widths: Widths = (16, 32, 64, 128)) -> nn.Module:
    """Build a U-Net++ over slices (n, inputs, y, x) in 0..1; logits (n, outputs, y, x), the mean of its heads.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes, background included.
    widths : tuple of int
        Channels of each level (32 to 512 in five levels in the paper).

    Examples
    --------
    >>> import torch
    >>> unet_plus_plus(1, 2, widths=(4, 8, 8))(torch.zeros(1, 1, 15, 10)).shape
    torch.Size([1, 2, 15, 10])
    """
    from shared_models.blocks.unet import NestedUNet

    return NestedUNet(inputs, outputs, tuple(widths))


def _loss(network: Any, slices: Tensor, labels: Tensor) -> Tensor:
    from shared_models.blocks.unet import deep_loss

    return deep_loss(network, slices, labels)


SPEC = SegmentationSpec(
    build=unet_plus_plus,
    loss=_loss,
    source="Zhou et al., UNet++: redesigning skip connections to exploit multiscale features in image segmentation, IEEE Trans Med Imaging 2020",
)
