"""Masked image modelling: squares of each slice are hidden, and an encoder with a light decoder draws them from the rest. No labels are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from shared_models.blocks.spec import ModelSpec
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice
from shared_models.networks import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor, nn


def masked_autoencoder(
    inputs: int,
    outputs: int,
    *,
    encoder: Choice = Choice(name="mil_cnn"),  # noqa: B008 - frozen
    cell_px: Annotated[int, Field(ge=2, le=128)] = 8,
    hidden: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6,
    width: Annotated[int, Field(ge=4, le=512)] = 32,
) -> nn.Module:
    """Build a masked autoencoder over slices (n, k, y, x): it gives the slices drawn anew and which pixels it had not seen.

    What it has of the encoder bears the encoder's own names behind ``network.``; what lies behind the encoder's last feature map is left out,
    as nothing here would train it. A diagnosis model of that name starts from it: ``[model.weights]`` with ``rename = { "network." = "" }``,
    ``skip = ["decoder.", "token"]`` and the rest of the network under ``fresh``.

    Parameters
    ----------
    inputs, outputs : int
        Channels of a slice; classes, which it does not read.
    encoder : Choice
        A network of slices with a feature map, and its knobs.
    cell_px : int
        Rows and columns of a square.
    hidden : float
        Share of the squares that is hidden, rounded, at least one.
    width : int
        Channels of the decoder.

    Raises
    ------
    BadChoice
        The encoder reads no slices or has no feature map.

    Examples
    --------
    >>> import torch
    >>> drawn, unseen = masked_autoencoder(1, 2, cell_px=8)(torch.rand(2, 3, 32, 32))
    >>> drawn.shape, float(unseen.float().mean())
    (torch.Size([2, 3, 32, 32]), 0.625)
    """
    from shared_models.blocks.masked import MaskedAutoencoder

    network = pick(NETWORKS, encoder, kind="encoder", get=lambda spec: spec.build)(inputs, outputs)
    spec = NETWORKS[encoder.name]
    if spec.takes != "slices" or spec.feature_map is None:
        raise BadChoice("an encoder to pretrain reads slices and has a feature map", value=encoder.name, remedy="choose another network")
    return MaskedAutoencoder(network, spec.feature_map, cell_px=cell_px, hidden=hidden, width=width, least_px=max(64, spec.least_px))


def unexplained(output: tuple[Tensor, Tensor], batch: Tensor, targets: Tensor) -> Any:
    """Return the share of the hidden pixels' variance that the drawing does not explain, of each record, shape (n,): 1 is their mean, 0 is exact.

    Records of one grey would divide by nothing: a variance below 1e-4 of the window's square counts as that.
    """
    del targets
    drawn, unseen = output
    weight = unseen.to(drawn.dtype)
    count = weight.flatten(1).sum(1).clamp_min(1.0)
    mean = (batch * weight).flatten(1).sum(1) / count
    spread = (((batch - mean[:, None, None, None]) ** 2) * weight).flatten(1).sum(1) / count
    return (((drawn - batch) ** 2) * weight).flatten(1).sum(1) / count / spread.clamp_min(1e-4)


SPEC = ModelSpec(
    build=masked_autoencoder,
    takes="slices",
    fit="gradient",
    task="reconstruction",
    objective=unexplained,
    least_px=2,
    source="Xie et al., SimMIM: a simple framework for masked image modeling, CVPR 2022; He et al., Masked autoencoders, CVPR 2022; "
    "federated: Yan et al., Label-efficient self-supervised federated learning, IEEE TMI 2023",
)
