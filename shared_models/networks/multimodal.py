"""Fusion network over groups of columns: quantitative CT, lung function, demographics; any of them may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from shared_models.blocks.knobs import Dropout
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn

Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=1)]


def multimodal(
    inputs: int,
    outputs: int,
    *,
    groups: dict[str, Names] | None = None,
    fusion: Literal["concat", "attention", "late"] = "attention",
    width: Annotated[int, Field(ge=4, le=1024)] = 32,
    hidden: Annotated[int, Field(ge=4, le=4096)] = 64,
    dropout: Dropout = 0.1,
    modality_dropout: Dropout = 0.3,
) -> nn.Module:
    """Build the fusion network: input rows (n, columns), NaN where a value is missing, output logits (n, outputs).

    Parameters
    ----------
    inputs : int
        Columns of the table.
    outputs : int
        Classes.
    groups : dict of name to tuple of str, optional
        The columns of each modality. Side by side, in the alphabetical order of the modalities' names (a table of TOML has no order of its own),
        they are ``inputs.columns``. Without it all columns are one modality.
    fusion : str
        ``concat`` mixes the modalities' vectors side by side, ``attention`` their mean by gated attention, ``late`` sums the logits that each
        modality gives alone (and so knows of no interaction between modalities).
    width, hidden : int
        Length of a modality's vector, and width of its encoder's inner layer.
    dropout, modality_dropout : float
        Probability of dropping a fused feature, and a whole modality, while training.

    Raises
    ------
    BadChoice
        Groups of another number of columns than the table has.

    Examples
    --------
    >>> import torch
    >>> model = multimodal(3, 2, groups={"ct": ("whole_haa_percent", "whole_mld_hu"), "pft": ("fvc_percent",)}).eval()
    >>> model(torch.tensor([[1.0, torch.nan, 80.0], [2.0, -800.0, torch.nan]])).shape
    torch.Size([2, 2])
    """
    from shared_models.blocks.modalities import Modalities

    sizes = tuple(len(names) for _, names in sorted((groups or {}).items())) or (inputs,)
    if sum(sizes) != inputs:
        raise BadChoice(
            "model.groups hold every column of the table once", value=(sum(sizes), inputs), remedy="list each of inputs.columns in one group"
        )
    return Modalities(sizes, outputs, width=width, hidden=hidden, fusion=fusion, dropout=dropout, modality_dropout=modality_dropout)


SPEC = ModelSpec(
    build=multimodal,
    takes="table",
    fit="gradient",
    loss=cross_entropy,
    representation="drop",
    takes_missing=True,
    source="Dack et al., Artificial intelligence and interstitial lung disease, Invest Radiol 2023 (the system); gated attention: Ilse et al., ICML "
    "2018; modality dropout: Neverova et al., ModDrop, IEEE TPAMI 2016",
)
