"""MufiNet that reads slices after a generator has taken the noise off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Contrast, Dropout, Features, Norm, checked_contrast
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.networks.mufinet import mufinet

if TYPE_CHECKING:
    from torch import nn


def mufinet_enhanced(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 32,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
    contrast: Contrast = (0.0, 1.0),
    widths: Annotated[tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=2, max_length=6)] = (16, 32, 64),
    noise: Annotated[float, Field(gt=0, le=1)] = 0.1,
    likeness: Annotated[float, Field(gt=0, le=10_000)] = 100.0,
) -> nn.Module:
    """Build three players over slices (n, k, y, x): a denoising U-Net, the discriminator of patches that it is trained against, and MufiNet.

    Train them in ``[[stages]]``: first ``train_only = ["discriminator.*", "generator.*"]``, then ``["classifier.*"]``.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width, norm, features, dropout
        Of `mufinet`.
    contrast : tuple of float
        Part of the window, 0..1, that MufiNet sees, stretched to 0..1: GANs learn in a wide HU window, this classifier in a narrow one.
    widths : tuple of int
        Channels of the U-Net's levels; the first two are the discriminator's.
    noise : float
        Largest standard deviation of the noise of the training twins, as a share of the HU window.
    likeness : float
        Weight of the absolute difference beside the adversarial loss (100 in the paper).

    Examples
    --------
    >>> import torch
    >>> mufinet_enhanced(1, 5, width=4, features=8, widths=(4, 8))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.enhancement import EnhancedClassifier

    classifier = mufinet(inputs, outputs, width=width, norm=norm, features=features, dropout=dropout)
    return EnhancedClassifier(classifier, tuple(widths), noise, likeness, checked_contrast(contrast))


SPEC = ModelSpec(
    build=mufinet_enhanced,
    takes="slices",
    fit="adversarial",
    loss=cross_entropy,
    feature_map="classifier.encoder.maps",
    representation="classifier.drop",
    least_px=16,
    source="Nair et al., Enhanced visual insights and diagnosis of ILD via Mufinet-DCGAN framework, EASR 52(4), 2025: architecture ours",
)
