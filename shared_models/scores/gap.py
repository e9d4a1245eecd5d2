"""GAP and ILD-GAP: points for gender, age and physiology, and the mortality that their authors reported for the sum."""

from __future__ import annotations

from shared_models.core.errors import BadInput
from shared_models.scores.spec import Scored, ScoreSpec, Values, number_of

CANNOT = "cannot"
"""What stands for the diffusing capacity of a patient who cannot perform the test: it counts more than a low value."""

GAP_STAGES: tuple[tuple[int, str, dict[int, float]], ...] = (
    (3, "I", {1: 0.056, 2: 0.109, 3: 0.163}),
    (5, "II", {1: 0.162, 2: 0.299, 3: 0.421}),
    (8, "III", {1: 0.392, 2: 0.621, 3: 0.768}),
)
"""Largest number of points of a stage, its name, years to the mortality that Ley et al. reported."""

ILD_GAP_STAGES: tuple[tuple[int, str, dict[int, float]], ...] = (
    (1, "0-1", {1: 0.031, 3: 0.100}),
    (3, "2-3", {1: 0.088, 3: 0.269}),
    (5, "4-5", {1: 0.182, 3: 0.492}),
    (8, ">5", {1: 0.335, 3: 0.748}),
)
"""As `GAP_STAGES`, of Ryerson et al.: 1 and 3 years."""

SUBTYPES: dict[str, int] = {"IPF": 0, "unclassifiable": 0, "CTD-ILD": -2, "iNSIP": -2, "chronic HP": -2}
"""ILD subtype to its points."""


def gap_points(values: Values) -> int:
    """Return the points of GAP, 0..8.

    Raises
    ------
    BadInput
        A value that cannot be.

    Examples
    --------
    >>> gap_points({"sex": "M", "age": 70, "fvc_percent": 60, "dlco_percent": "cannot"})
    7
    """
    if values["sex"] not in ("F", "M"):
        raise BadInput("sex is F or M", value=values["sex"])
    age, fvc = number_of(values, "age"), number_of(values, "fvc_percent")
    points = int(values["sex"] == "M") + (0 if age <= 60 else 1 if age <= 65 else 2) + (0 if fvc > 75 else 1 if fvc >= 50 else 2)
    if values["dlco_percent"] == CANNOT:
        return points + 3
    dlco = number_of(values, "dlco_percent")
    return points + (0 if dlco > 55 else 1 if dlco > 35 else 2)


def _staged(points: int, stages: tuple[tuple[int, str, dict[int, float]], ...]) -> Scored:
    _, stage, risk = next(row for row in stages if points <= row[0])
    return Scored(float(points), stage, dict(risk))


def gap(values: Values) -> Scored:
    """Return GAP points, stage I to III, and the reported 1-, 2- and 3-year mortality of the stage.

    Examples
    --------
    >>> scored = gap({"sex": "F", "age": 62, "fvc_percent": 80, "dlco_percent": 40})
    >>> scored.value, scored.stage, scored.risk[1]
    (2.0, 'I', 0.056)
    """
    return _staged(gap_points(values), GAP_STAGES)


def ild_gap(values: Values) -> Scored:
    """Return ILD-GAP points (GAP and those of the subtype; not below 0), index, and the reported 1- and 3-year mortality.

    Raises
    ------
    BadInput
        A subtype that the score does not know, or a value that cannot be.

    Examples
    --------
    >>> ild_gap({"sex": "M", "age": 70, "fvc_percent": 60, "dlco_percent": 30, "subtype": "chronic HP"}).stage
    '4-5'
    """
    if values["subtype"] not in SUBTYPES:
        raise BadInput("the subtype is one of the score's", value=values["subtype"], remedy=f"choose among {', '.join(SUBTYPES)}")
    return _staged(max(0, gap_points(values) + SUBTYPES[values["subtype"]]), ILD_GAP_STAGES)


GAP_SPEC = ScoreSpec(
    function=gap,
    needs=("sex", "age", "fvc_percent", "dlco_percent"),
    title="GAP",
    means="Mortality of idiopathic pulmonary fibrosis by gender, age and lung function.",
    source="Ley et al., Ann Intern Med 2012;156:684",
)
ILD_GAP_SPEC = ScoreSpec(
    function=ild_gap,
    needs=("sex", "age", "fvc_percent", "dlco_percent", "subtype"),
    title="ILD-GAP",
    means="GAP for chronic interstitial lung diseases, with points for the subtype.",
    source="Ryerson et al., Chest 2014;145:723",
)
