"""A small patch classifier for HRCT texture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def patch_cnn(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 16,
    bins: Annotated[int, Field(ge=8, le=256)] = 48,
    hidden: Annotated[int, Field(ge=8)] = 96,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3,
) -> nn.Module:
    """Classifier of small HRCT patches: a two-layer CNN fused with HU and gradient histograms at several scales.

    Emphysema grades differ above all in how much of the patch is how dark, which GroupNorm takes out of a convolution's output;
    the histograms keep it (HU histograms as lung texture features: Sorensen, Shaker and de Bruijne, "Quantitative analysis of
    pulmonary emphysema using local binary patterns", IEEE Trans Med Imaging 29(2), 2010). They have no weights, so averaging over
    sites cannot blur them. GroupNorm alone (Wu and He, ECCV 2018): no running statistics leave a site, and one case is a batch.

    Parameters
    ----------
    inputs : int
        Channels of a patch, each in plain Hounsfield units; all scaling is inside.
    outputs : int
        Number of classes.
    width : int
        Channels of the first convolution; the second has twice as many.
    bins : int
        HU bins of a histogram at each of three scales; two gradient histograms have half as many.
    hidden : int
        Units after the histograms.
    dropout : float
        Share dropped before the last layer; a third of it before the histogram layer.

    Returns
    -------
    nn.Module
        Takes float32 (n, inputs, y, x), y and x at least 9, and returns logits (n, outputs).

    Examples
    --------
    >>> import torch
    >>> network = patch_cnn(1, 6).eval()
    >>> sum(weight.numel() for weight in network.parameters())
    24998
    >>> patch = torch.randn(1, 1, 31, 31) * 50 - 900
    >>> network(patch).shape
    torch.Size([1, 6])
    """
    from shared_models.blocks.texture import PatchCNN

    return PatchCNN(inputs, outputs, width=width, bins=bins, hidden=hidden, dropout=dropout)


SPEC = ModelSpec(
    build=patch_cnn,
    takes="patch",
    fit="gradient",
    loss=cross_entropy,
    feature_map="shape",
    representation="head",
    units="hu",
    least_px=9,
    source="histogram features: Sorensen, Shaker & de Bruijne, IEEE Trans Med Imaging 2010; soft histograms: Wang et al., ECCV 2016",
)
