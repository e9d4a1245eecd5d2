"""The generator of a conditional GAN (pix2pix) with a multi-scale bottom, and the patch discriminator that it is trained against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.segmentation import SegmentationSpec, slice_loss
from shared_models.networks.segmentation.unet import Widths

if TYPE_CHECKING:
    from torch import nn


def pix2pix(inputs: int, outputs: int, *, widths: Widths = (16, 32, 64, 128), dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2) -> nn.Module:
    """Build the generator over slices (n, inputs, y, x) in 0..1; logits (n, outputs, y, x).

    A U-Net with dropout in the decoder, which takes the place of a noise input (Isola et al., section 3.2), and several scales of convolution
    at the bottom. The loss of the spec is that of the generator alone; against the discriminator train with
    `shared_models.blocks.pix2pix.generator_loss` and ``discriminator_loss``.

    Parameters
    ----------
    inputs, outputs : int
        Channels and classes, background included.
    widths : tuple of int
        Channels of each level (64 to 512 in eight levels in the paper).
    dropout : float
        Dropout of whole maps in the decoder.

    Examples
    --------
    >>> import torch
    >>> pix2pix(1, 2, widths=(4, 8))(torch.zeros(1, 1, 15, 10)).shape
    torch.Size([1, 2, 15, 10])
    """
    from shared_models.blocks.pix2pix import MultiScale
    from shared_models.blocks.unet import UNet

    return UNet(inputs, outputs, tuple(widths), bottom=MultiScale(widths[-1]), dropout=dropout)


def patch_discriminator(inputs: int, outputs: int, *, widths: Widths = (16, 32)) -> nn.Module:
    """Build the discriminator of (slice, class shares): one logit a patch.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    widths : tuple of int
        Channels of the strided convolutions; with (64, 128, 256) a patch spans about 70 pixels, as in the paper.

    Examples
    --------
    >>> import torch
    >>> patch_discriminator(1, 2, widths=(4, 8))(torch.zeros(1, 1, 16, 16), torch.zeros(1, 2, 16, 16)).shape
    torch.Size([1, 1, 4, 4])
    """
    from shared_models.blocks.pix2pix import PatchDiscriminator

    return PatchDiscriminator(inputs, outputs, tuple(widths))


SPEC = SegmentationSpec(
    build=pix2pix,
    loss=slice_loss,
    adversary=patch_discriminator,
    source="Isola et al., Image-to-image translation with conditional adversarial networks, CVPR 2017",
)
