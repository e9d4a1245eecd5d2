"""Progressive pulmonary fibrosis by the guideline of 2022: two of three criteria within a year, told over a patient's visits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared_models.core.errors import BadInput
from shared_models.scores.spec import number_of

WITHIN_YEARS = 1.0
FVC_POINTS = 5.0
DLCO_POINTS = 10.0
"""Absolute falls in percent of predicted that count: forced vital capacity, diffusing capacity corrected for haemoglobin."""

RADIOLOGY: tuple[str, ...] = (
    "more_traction_bronchiectasis",
    "new_ground_glass_with_traction",
    "new_fine_reticulation",
    "more_reticulation",
    "new_or_more_honeycombing",
    "more_volume_loss",
)
"""Radiological signs of progression; any one fulfils the third criterion."""

Met = Literal["met", "not met", "insufficient data"]


@dataclass(frozen=True)
class Progression:
    """Whether fibrosis is progressive, what each criterion says (True, False, None for not known), and the interval that told most, in years."""

    status: Met
    criteria: dict[str, bool | None]
    years: tuple[float, float] | None = None


def ppf_status(visits: Sequence[Mapping[str, Any]], *, fibrotic: bool = True, ipf: bool = False) -> Progression:
    """Return whether the visits show progressive pulmonary fibrosis.

    Every pair of visits at most a year apart is looked at. *Met* means two of the three criteria between the same two visits; *not met* that
    what is known excludes it for every pair; anything else is *insufficient data*. What is unknown is never taken for absent.

    Parameters
    ----------
    visits : sequence of mapping
        Each with ``years`` since the first visit; and, where known, ``worse_symptoms`` (bool, since the visit before), ``fvc_percent``,
        ``dlco_percent`` (of predicted) and ``radiology`` (a collection of names from `RADIOLOGY` since the visit before; empty: looked for, none).
    fibrotic : bool
        Fibrosis on CT: without it the term does not apply.
    ipf : bool
        Idiopathic pulmonary fibrosis, to which the term does not apply.

    Raises
    ------
    BadInput
        Fibrosis is absent or the disease is IPF; two visits of one time; an unknown sign; a value that cannot be.

    Source: Raghu et al., Am J Respir Crit Care Med 2022;205:e18, table 4. Another explanation of the worsening must be excluded by a physician.

    Examples
    --------
    >>> first = {"years": 0.0, "fvc_percent": 80, "dlco_percent": 60}
    >>> ppf_status([first, {"years": 0.9, "fvc_percent": 74, "dlco_percent": 55, "worse_symptoms": True}]).status
    'met'
    >>> ppf_status([first, {"years": 0.9, "fvc_percent": 79, "dlco_percent": 58, "worse_symptoms": True}]).status
    'insufficient data'
    """
    if ipf or not fibrotic:
        raise BadInput("progressive pulmonary fibrosis is said of fibrotic lung disease other than IPF", value={"fibrotic": fibrotic, "ipf": ipf})
    ordered = sorted((dict(visit) for visit in visits), key=lambda visit: float(visit["years"]))
    if any(a["years"] == b["years"] for a, b in itertools.pairwise(ordered)):
        raise BadInput("visits have different times", value=[visit["years"] for visit in ordered])
    if unknown := sorted({sign for visit in ordered for sign in visit.get("radiology") or ()} - set(RADIOLOGY)):
        raise BadInput("a radiological sign is one of the guideline's", value=unknown, remedy=f"choose among {', '.join(RADIOLOGY)}")
    best, rank = Progression("insufficient data", dict.fromkeys(("symptoms", "physiology", "radiology"))), -1
    possible = False
    for i, earlier in enumerate(ordered):
        for j in range(i + 1, len(ordered)):
            later = ordered[j]
            if later["years"] - earlier["years"] > WITHIN_YEARS + 1e-9:
                break
            between = ordered[i + 1 : j + 1]
            criteria = {
                "symptoms": _any(visit.get("worse_symptoms") for visit in between),
                "physiology": _physiology(earlier, later),
                "radiology": _any(None if visit.get("radiology") is None else bool(visit["radiology"]) for visit in between),
            }
            held, open_ = sum(v is True for v in criteria.values()), sum(v is None for v in criteria.values())
            possible = possible or held + open_ >= 2
            if held * 4 - open_ > rank or rank < 0:
                best, rank = Progression("insufficient data", criteria, (earlier["years"], later["years"])), max(0, held * 4 - open_)
    if best.years is None:
        return best
    status: Met = "met" if sum(v is True for v in best.criteria.values()) >= 2 else "insufficient data" if possible else "not met"
    return Progression(status, best.criteria, best.years)


def _any(found: Any) -> bool | None:
    known = list(found)
    return True if any(v is True for v in known) else None if any(v is None for v in known) or not known else False


def _physiology(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> bool | None:
    falls = []
    for name, points in (("fvc_percent", FVC_POINTS), ("dlco_percent", DLCO_POINTS)):
        if earlier.get(name) is None or later.get(name) is None:
            falls.append(None)
        else:
            falls.append(number_of(earlier, name) - number_of(later, name) >= points)
    return _any(falls)
