"""The patch network of Anthimopoulos and colleagues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def ild_cnn(inputs: int, outputs: int, *, k: Annotated[int, Field(ge=1, le=16)] = 4, dropout: Dropout = 0.5) -> nn.Module:
    """Build the five-layer network of 2x2 kernels over HU patches (n, inputs, y, x), at least 6 x 6 pixels; written from the paper.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a patch in plain Hounsfield units, and classes.
    k : int
        Layer l has ``k (l + 1)^2`` kernels: 16, 36, 64, 100 and 144 as published.
    dropout : float
        Before each linear layer.

    Examples
    --------
    >>> sum(weight.numel() for weight in ild_cnn(1, 7).parameters())
    471567
    """
    from shared_models.blocks.small_kernels import SmallKernels

    return SmallKernels(inputs, outputs, k=k, dropout=dropout)


SPEC = ModelSpec(
    build=ild_cnn,
    takes="patch",
    fit="gradient",
    loss=cross_entropy,
    feature_map="maps",
    representation="head",
    units="hu",
    least_px=6,
    source="Anthimopoulos et al., Lung pattern classification for interstitial lung diseases using a deep CNN, IEEE Trans Med Imaging 35(5), 2016",
)
