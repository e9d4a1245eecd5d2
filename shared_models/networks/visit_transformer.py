"""A transformer over a patient's visits with continuous time: the course of quantitative CT or embeddings, lung function and clinical variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from shared_models.blocks.knobs import Dropout
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn


def visit_transformer(
    inputs: int,
    outputs: int,
    *,
    visits: Annotated[int, Field(ge=1, le=50)] = 4,
    width: Annotated[int, Field(ge=8, le=1024)] = 128,
    depth: Annotated[int, Field(ge=1, le=24)] = 4,
    heads: Annotated[int, Field(ge=1, le=32)] = 4,
    hidden: Annotated[int, Field(ge=4, le=4096)] = 64,
    dropout: Dropout = 0.1,
    history: bool = True,
    trend: bool = True,
    trend_columns: Annotated[int, Field(ge=0, le=100_000)] = 0,
    proportional: Annotated[int, Field(ge=0, le=400)] = 0,
) -> nn.Module:
    """Build the transformer over visits: rows (n, visits * (1 + columns)) of ``inputs.visits = "course"``, output logits (n, outputs).

    Of each visit the row holds the years since the first one and then the columns, NaN where a value or the whole visit is missing. Time is
    continuous and no token knows its place: visits may come in any order with their times. Where survival is learnt with ``data.diagnoses``, the
    outputs are the hazards of the intervals and the classes of the diagnosis: two heads on one vector.

    Parameters
    ----------
    inputs : int
        Numbers of a row.
    outputs : int
        Logits.
    visits : int
        Most visits of a patient: that of ``inputs.most_visits``.
    width, depth, heads : int
        Of the transformer.
    hidden : int
        Width of the inner layer of the encoder of a visit.
    dropout : float
        Probability of dropping a feature while training.
    history : bool
        False reads the first visit alone: what the later ones add is the difference.
    trend : bool
        A linear path beside the attention, from the first values and each column's change a year to the outputs. The attention then starts from
        nothing, so that ``[[stages]]`` can teach first the path (``train_only = ["trend.*", "constants"]``) and then what it leaves.
    trend_columns : int
        The linear path reads that many columns, from the first on: put first those that a visit measures well, and after them those of which a
        change a year is mostly error (lung function); the attention reads all. 0 for all.
    proportional : int
        That many outputs, from the first on, move together by one score, each from a constant of its own: set it to the number of
        ``data.intervals`` for proportional odds of all intervals, which few deaths can teach. 0 gives every interval a score of its own.

    Raises
    ------
    BadChoice
        Numbers that are not the same for each visit, heads that do not share the width, more columns for the linear path or more proportional
        outputs than there are.

    Examples
    --------
    >>> import torch
    >>> model, none = visit_transformer(6, 5, visits=2, width=16, depth=1).eval(), torch.nan
    >>> model(torch.tensor([[0.0, 12.0, 80.0, 0.5, 18.0, none], [0.0, 12.0, 80.0, none, none, none]])).shape
    torch.Size([2, 5])
    """
    from shared_models.blocks.transformer import divided
    from shared_models.blocks.visits import VisitTransformer

    if inputs % visits or inputs // visits < 2:
        remedy = 'set model.visits to inputs.most_visits, and inputs.visits = "course"'
        raise BadChoice("every visit has as many numbers, its time and at least one column", value=f"{inputs} over {visits} visits", remedy=remedy)
    if trend_columns > (columns := inputs // visits - 1):
        remedy = "set model.trend_columns to how many of inputs.columns come first and are measured well, or to 0 for all"
        raise BadChoice("the linear path reads some of the columns", value=f"{trend_columns} of {columns}", remedy=remedy)
    if proportional > outputs:
        remedy = "set model.proportional to the number of data.intervals, or to 0"
        raise BadChoice("proportional outputs are some of the outputs", value=f"{proportional} of {outputs}", remedy=remedy)
    return VisitTransformer(
        columns,
        outputs,
        visits=visits,
        width=divided(width, heads),
        layers=depth,
        heads=heads,
        hidden=hidden,
        dropout=dropout,
        history=history,
        trend=trend,
        trend_columns=trend_columns,
        proportional=proportional,
    )


SPEC = ModelSpec(
    build=visit_transformer,
    takes="table",
    fit="gradient",
    loss=cross_entropy,
    representation="drop",
    takes_missing=True,
    source="Mei et al., Interstitial lung disease diagnosis and prognosis using an AI system integrating longitudinal data, Nat Commun 2023;14:2272 "
    "(the system); Vaswani et al., Attention is all you need, NeurIPS 2017; time: Kazemi et al., Time2Vec, arXiv:1907.05321; "
    "the linear path: Cheng et al., Wide & Deep Learning, DLRS 2016; proportional odds: Cox, J R Stat Soc B 1972;34:187",
)
