"""MufiNet that trains on real slices and on those that a conditional DCGAN draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Contrast, Dropout, Features, Norm, checked_contrast
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.networks.dcgan import Bins, Naming, Noise, Size, Variety
from shared_models.networks.dcgan import Width as GanWidth
from shared_models.networks.mufinet import mufinet

if TYPE_CHECKING:
    from torch import nn


def mufinet_dcgan(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 32,
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
    contrast: Contrast = (0.0, 1.0),
    generated: Annotated[float, Field(ge=0, le=1)] = 0.5,
    size: Size = 64,
    gan_width: GanWidth = 64,
    noise: Noise = 100,
    bins: Bins = 32,
    naming: Naming = 1.0,
    variety: Variety = 0.02,
) -> nn.Module:
    """Build three players over slices (n, k, y, x): a conditional DCGAN's two, and MufiNet as the classifier that is judged and released.

    Train them in ``[[stages]]``: first ``train_only = ["discriminator.*", "generator.*"]``, then ``["classifier.*"]``. A released `dcgan`
    takes the place of the first stage by ``[model.weights]`` with its path and SHA-256 and ``fresh = ["classifier."]``.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    width, norm, features, dropout
        Of `mufinet`.
    contrast : tuple of float
        Part of the window, 0..1, that MufiNet sees, stretched to 0..1: GANs learn in a wide HU window, this classifier in a narrow one.
    generated : float
        Share of a batch's patients whose slices are drawn, of the same class, in place of the real ones; each site draws its own, and they
        are gone after the step.
    size, gan_width, noise, bins, naming, variety
        Of `dcgan`.

    Examples
    --------
    >>> import torch
    >>> mufinet_dcgan(1, 5, width=4, features=8, size=16, gan_width=4, noise=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.dcgan import AugmentedClassifier

    classifier = mufinet(inputs, outputs, width=width, norm=norm, features=features, dropout=dropout)
    return AugmentedClassifier(
        classifier,
        generated,
        checked_contrast(contrast),
        outputs=outputs,
        size=size,
        width=gan_width,
        noise=noise,
        bins=bins,
        naming=naming,
        variety=variety,
    )


SPEC = ModelSpec(
    build=mufinet_dcgan,
    takes="slices",
    fit="adversarial",
    draws=True,
    loss=cross_entropy,
    feature_map="classifier.encoder.maps",
    representation="classifier.drop",
    least_px=16,
    source="Nair et al., Enhanced visual insights and diagnosis of ILD via Mufinet-DCGAN framework, EASR 52(4), 2025: architecture ours",
)
