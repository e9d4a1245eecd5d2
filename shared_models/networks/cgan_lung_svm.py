"""Lungs by a conditional GAN, features of ResNet-50 inside them, a support vector machine on the features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from shared_models.blocks.knobs import Dropout, Features, Norm
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.networks.resnet50 import resnet50
from shared_models.networks.segmentation.unet import Widths

if TYPE_CHECKING:
    from torch import nn

Part = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]], Field(min_length=2, max_length=2)]


def cgan_lung_svm(
    inputs: int,
    outputs: int,
    *,
    lung_widths: Widths = (16, 32, 64, 128),
    lung_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    judge_widths: Widths = (16, 32),
    likeness: Annotated[float, Field(ge=0, le=1000)] = 100.0,
    fooling: Annotated[float, Field(ge=0, le=1000)] = 1.0,
    size: Annotated[int, Field(ge=32, le=512)] = 224,
    part: Part = (0.0, 1.0),
    cut: bool = True,
    width: Annotated[int, Field(ge=4, le=128, multiple_of=4)] = 64,
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=36)], ...], Field(min_length=4, max_length=4)] = (3, 4, 6, 3),
    norm: Norm = "group",
    features: Features = 256,
    dropout: Dropout = 0.1,
    waves: Annotated[int, Field(ge=16, le=8192)] = 1024,
    gamma: Annotated[float, Field(gt=0, le=100)] = 1.0,
) -> nn.Module:
    """Build three players over whole slices (n, k, y, x): a discriminator of masks, the generator of lung masks, and a classifier of what is inside.

    Train them in ``[[stages]]``: ``train_only = ["discriminator.*", "segmenter.*"]``, then ``["classifier.*"]``, and last the machine alone on
    features that rest: ``["classifier.head.*"]``.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice, and classes.
    lung_widths, lung_dropout, judge_widths
        Of the generator's levels, its dropout, and of the discriminator, as of `pix2pix`.
    likeness, fooling : float
        Weights of the generator's likeness to the true mask, and of the discriminator's word; 0 plays without it.
    size : int
        Pixels of the box around the lungs that the classifier sees.
    part : tuple of float
        Part of the window that the classifier sees as 0..1.
    cut : bool
        Whether the lungs are cut out at all.
    width, blocks, norm, features, dropout
        Of `resnet50`.
    waves, gamma
        Random Fourier features of the machine's kernel, and its width.

    Examples
    --------
    >>> import torch
    >>> network = cgan_lung_svm(1, 5, lung_widths=(4, 8), judge_widths=(4, 8), size=32, width=4, blocks=(1, 1, 1, 1), features=8, waves=16)
    >>> network(torch.zeros(2, 3, 40, 32)).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.kernel_head import KernelHead, squared_hinge
    from shared_models.blocks.lung_pipeline import AdversarialLungPipeline
    from shared_models.networks.segmentation.pix2pix import pix2pix

    classifier = resnet50(inputs, outputs, width=width, blocks=blocks, norm=norm, features=features, dropout=dropout)
    classifier.head = KernelHead(features, outputs, features=waves, gamma=gamma)
    generator: Any = pix2pix(inputs, 2, widths=lung_widths, dropout=lung_dropout)
    adversary = {"widths": tuple(judge_widths), "likeness": likeness, "fooling": fooling}
    return AdversarialLungPipeline(generator, classifier, **adversary, loss=squared_hinge, size=size, window=part, cut=cut)


SPEC = ModelSpec(
    build=cgan_lung_svm,
    takes="slices",
    fit="adversarial",
    maps=True,
    loss=cross_entropy,
    representation="classifier.drop",
    least_px=16,
    source="Jadhav, IJPER 58:s787, 2024; Pawar & Talbar, BMRI 2022: architecture ours; GAN: Isola et al., CVPR 2017; kernel: Rahimi & Recht 2007",
)
