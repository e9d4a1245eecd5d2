"""SCORES: clinical scores by name, each with its paper. Research use only: they describe groups that their authors followed."""

from __future__ import annotations

from dataclasses import replace

from shared_models.core.errors import BadChoice
from shared_models.scores.cpi import CPI_SPEC
from shared_models.scores.gap import GAP_SPEC, ILD_GAP_SPEC
from shared_models.scores.goh import GOH_SPEC
from shared_models.scores.spec import Scored, ScoreSpec, Values, missing_of

SCORES: dict[str, ScoreSpec] = {
    "gap": GAP_SPEC,
    "ild_gap": ILD_GAP_SPEC,
    "goh": GOH_SPEC,
    "cpi": CPI_SPEC,
}


def score_of(name: str, values: Values) -> Scored:
    """Return what a score says of a patient; without a needed value it says which one is missing, and no number.

    Raises
    ------
    BadChoice
        No such score.
    BadInput
        A value that cannot be.

    Examples
    --------
    >>> score_of("cpi", {"fvc_percent": 70}).missing
    ('dlco_percent', 'fev1_percent')
    """
    if name not in SCORES:
        raise BadChoice("a clinical score is one of the table", value=name, remedy=f"choose among {', '.join(SCORES)}")
    spec = SCORES[name]
    inputs = {need: values.get(need) for need in spec.needs}
    if missing := missing_of(values, spec.needs):
        return Scored(missing=missing, inputs=inputs)
    return replace(spec.function(values), inputs=inputs)


__all__ = ["SCORES", "Scored", "ScoreSpec", "score_of"]
