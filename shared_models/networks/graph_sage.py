"""A graph network over the 36 regions of the lungs, read as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.lung_grid import NODES
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn


def graph_sage(
    inputs: int,
    outputs: int,
    *,
    width: Annotated[int, Field(ge=4, le=512)] = 32,
    depth: Annotated[int, Field(ge=1, le=4)] = 2,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
) -> nn.Module:
    """Let each region hear its neighbours, layer by layer, and judge the lungs by the mean and the largest answer of all regions.

    A layer is ``relu(W h_i + V mean_j h_j + b)`` over the neighbours j of region i. Beside its columns a region knows its level, face and shell,
    and not its side.

    Parameters
    ----------
    inputs : int
        Columns of the table: as many for each of the 36 regions, all of the first region first (`shared_models/blocks/lung_grid`).
    outputs : int
        Classes.
    width : int
        Numbers that a region holds after each layer.
    depth : int
        Layers: how many steps away a region hears.
    dropout : float
        Share of a layer's answers left out while training.

    Raises
    ------
    BadChoice
        A number of columns that is no multiple of 36.

    Examples
    --------
    >>> import torch
    >>> graph_sage(36 * 5, 2)(torch.zeros(4, 36 * 5)).shape
    torch.Size([4, 2])
    """
    if inputs % NODES:
        raise BadChoice(
            "a graph of the lungs has as many columns for each of its 36 regions",
            value=inputs,
            remedy='inputs.columns = ["graph_{right,left}_{lower,middle,upper}_{front,back}_{outer,middle,inner}_{mld_hu,sd_hu}"]',
        )
    from shared_models.blocks.graph_layers import LungGraph

    return LungGraph(inputs // NODES, outputs, width=width, depth=depth, dropout=dropout)


SPEC = ModelSpec(
    build=graph_sage,
    takes="table",
    fit="gradient",
    loss=cross_entropy,
    representation="classifier",
    source="Hamilton, Ying & Leskovec, Inductive representation learning on large graphs, NeurIPS 2017, with the mean of neighbours",
)
