"""Attention-based multiple-instance network over lung slices: the default model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def mil_cnn(
    inputs: int,
    outputs: int,
    *,
    widths: Annotated[tuple[Annotated[int, Field(ge=4, le=512)], ...], Field(min_length=2, max_length=6)] = (16, 24, 32, 48),
    features: Annotated[int, Field(ge=8, le=1024)] = 64,
    bins: Annotated[int, Field(ge=0, le=256)] = 24,
    position: bool = True,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> nn.Module:
    """Build the attention network over slices: input (n, k, y, x) in 0..1, output logits (n, outputs).

    Parameters
    ----------
    inputs : int
        Channels of a slice (1: one HU window).
    outputs : int
        Classes.
    widths : tuple of int
        Channels of the convolution stages; each stage halves the resolution.
    features : int
        Length of a slice's feature vector.
    bins : int
        Bins of the intensity histograms; 0 leaves them out.
    position : bool
        Let a slice's height between apex and base count; without it the order of the slices does not matter.
    dropout : float
        Probability of dropping a pooled feature while training.

    Examples
    --------
    >>> import torch
    >>> mil_cnn(1, 5)(torch.zeros(2, 4, 32, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.bags import AttentionBag, SliceEncoder

    return AttentionBag(SliceEncoder(inputs, tuple(widths), features, bins), features, outputs, dropout, position)


SPEC = ModelSpec(
    build=mil_cnn,
    takes="slices",
    fit="gradient",
    loss=cross_entropy,
    feature_map="encoder.maps",
    representation="drop",
    source="Ilse, Tomczak & Welling, Attention-based deep multiple instance learning, ICML 2018",
)
