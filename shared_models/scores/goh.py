"""Goh: limited or extensive interstitial lung disease in systemic sclerosis, by extent on CT and, where that is unclear, lung function."""

from __future__ import annotations

from shared_models.scores.spec import Scored, ScoreSpec, Values, number_of

UNCLEAR = (10.0, 30.0)
"""Percent of lung between which (both included) the extent alone does not tell and the forced vital capacity decides: below 70 % is extensive."""


def goh(values: Values) -> Scored:
    """Return the extent and ``limited`` or ``extensive``.

    Examples
    --------
    >>> goh({"extent_percent": 15, "fvc_percent": 65}).stage
    'extensive'
    >>> goh({"extent_percent": 9, "fvc_percent": 65}).stage
    'limited'
    """
    extent, fvc = number_of(values, "extent_percent"), number_of(values, "fvc_percent")
    low, high = UNCLEAR
    extensive = extent > high or (extent >= low and fvc < 70)
    return Scored(extent, "extensive" if extensive else "limited")


GOH_SPEC = ScoreSpec(
    function=goh,
    needs=("extent_percent", "fvc_percent"),
    title="Goh",
    means="Limited or extensive lung disease in systemic sclerosis; extensive disease: hazard ratio of death 3.46 (2.19-5.46) as reported.",
    source="Goh et al., Am J Respir Crit Care Med 2008;177:1248",
)
