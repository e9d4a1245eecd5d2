"""Logistic regression as a network: for tables that are trained by gradients, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn


def linear(inputs: int, outputs: int) -> nn.Module:
    """Multinomial logistic regression with the first class as reference: its logit is 0, the others are linear in the columns.

    With two classes this is ``sigmoid(w x + b)``. The model that strategies and differential privacy are compared on, because its
    published figures exist; for an exact fit of a table choose ``logistic``.

    Parameters
    ----------
    inputs : int
        Columns of the table.
    outputs : int
        Classes.

    Examples
    --------
    >>> import torch
    >>> model = linear(13, 2)
    >>> sum(weight.numel() for weight in model.parameters())
    14
    >>> model(torch.zeros(4, 13)).shape
    torch.Size([4, 2])
    """
    from torch import nn

    from shared_models.blocks.layers import ReferenceLogit

    return nn.Sequential(nn.Linear(inputs, outputs - 1), ReferenceLogit())


SPEC = ModelSpec(
    build=linear,
    takes="table",
    fit="gradient",
    loss=cross_entropy,
    reference_logit=True,
    source="Cox, The regression analysis of binary sequences, J R Stat Soc B 1958; reference-class coding: Agresti, Categorical Data Analysis, 8.1",
)
