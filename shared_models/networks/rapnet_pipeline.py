"""Lungs by a multi-scale U-Net++, features of an attention pyramid inside them, the class by MobileUNetV3: three stages in one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.networks.cgan_lung_svm import Part
from shared_models.networks.mobile_unet_v3 import mobile_unet_v3
from shared_models.networks.segmentation.unet import Widths

if TYPE_CHECKING:
    from torch import nn


def rapnet_pipeline(
    inputs: int,
    outputs: int,
    *,
    lung_widths: Widths = (32, 64, 128, 256, 512),
    scales: bool = True,
    size: Annotated[int, Field(ge=32, le=512)] = 224,
    part: Part = (0.0, 1.0),
    cut: bool = True,
    width: Annotated[int, Field(ge=4, le=64, multiple_of=4)] = 16,
    pyramid: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = 64,
    refined: bool = True,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.2,
) -> nn.Module:
    """Build two players over whole slices (n, k, y, x): a U-Net++ that learns lung masks, and MobileUNetV3 with its pyramid on what is inside.

    Train them in ``[[stages]]``: ``train_only = ["segmenter.*"]``, then ``["classifier.*"]``.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    lung_widths : tuple of int
        Channels of the U-Net++'s levels.
    scales : bool
        Whether each of its convolutions looks at three scales and weighs its channels; without it is the published U-Net++.
    size : int
        Pixels of the box around the lungs that the classifier sees.
    part : tuple of float
        Part of the window that the classifier sees as 0..1.
    cut : bool
        Whether the lungs are cut out at all: the first stage, on or off.
    width, pyramid, norm, features, dropout
        Of `mobile_unet_v3`.
    refined : bool
        Whether the attention pyramid enters the vector: the second stage, on or off.

    Examples
    --------
    >>> import torch
    >>> network = rapnet_pipeline(1, 5, lung_widths=(4, 8), size=32, width=4, pyramid=4, features=8)
    >>> network(torch.zeros(2, 3, 40, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.lung_pipeline import LungPipeline
    from shared_models.blocks.scales import multi_scale
    from shared_models.blocks.segmentation import double_convolution
    from shared_models.blocks.unet import NestedUNet

    segmenter = NestedUNet(inputs, 2, tuple(lung_widths), multi_scale if scales else double_convolution)
    classifier = mobile_unet_v3(inputs, outputs, width=width, pyramid=pyramid, norm=norm, features=features, dropout=dropout, refined=refined)
    return LungPipeline(segmenter, classifier, size=size, window=part, cut=cut)


SPEC = ModelSpec(
    build=rapnet_pipeline,
    takes="slices",
    fit="adversarial",
    maps=True,
    loss=cross_entropy,
    representation="classifier.drop",
    least_px=16,
    source="Vinta et al., IEEE Access 12:50444, 2024: architecture ours; U-Net++: Zhou et al. 2020; trunk: Howard et al., MobileNetV3, ICCV 2019",
)
