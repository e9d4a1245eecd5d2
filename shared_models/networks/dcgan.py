"""A conditional DCGAN that draws lung slices of a class, and whose discriminator names the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

Size = Literal[16, 32, 64, 128, 256]
Width = Annotated[int, Field(ge=2, le=256)]
Noise = Annotated[int, Field(ge=2, le=1024)]
Bins = Annotated[int, Field(ge=2, le=256)]
Naming = Annotated[float, Field(ge=0, le=100)]
Variety = Annotated[float, Field(ge=0, le=100)]


def dcgan(
    inputs: int,
    outputs: int,
    *,
    size: Size = 64,
    width: Width = 64,
    noise: Noise = 100,
    bins: Bins = 32,
    naming: Naming = 1.0,
    variety: Variety = 0.02,
) -> nn.Module:
    """Build the DCGAN over slices (n, k, y, x) in 0..1, each of them one sample; patches are bags of one.

    As a classifier it gives the discriminator's features to a linear head and averages the probabilities over the slices.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    size : int
        Side of a drawn slice in pixels; real ones are resampled to it.
    width : int
        Channels of the layers next to the image; 64 and ``size = 64`` are the paper's.
    noise : int
        Length of the noise vector, and of the embedding of a class beside it.
    bins : int
        Bins of the histogram beside the discriminator's maps.
    naming : float
        Weight of the class that the discriminator's head names, in the losses of both players; 0 leaves the head as it was drawn.
    variety : float
        Weight of the generator's wish that other noise give another slice: without it a small one draws one slice a class.

    Examples
    --------
    >>> import torch
    >>> dcgan(1, 3, size=16, width=4, noise=4)(torch.zeros(2, 5, 20, 20)).shape
    torch.Size([2, 3])
    """
    from shared_models.blocks.dcgan import Dcgan

    return Dcgan(outputs, size, width, noise, bins, naming, variety)


SPEC = ModelSpec(
    build=dcgan,
    takes="slices",
    fit="adversarial",
    draws=True,
    loss=cross_entropy,
    feature_map="discriminator.maps",
    source="Radford, Metz & Chintala, Unsupervised representation learning with deep convolutional GANs, ICLR 2016",
)
