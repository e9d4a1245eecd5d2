"""Clinical scores of a patient from the clinical table and the extents of a pattern map; what is missing is named and never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.scores import SCORES, score_of
from shared_models.scores.gap import SUBTYPES
from shared_models.scores.ppf import Progression, ppf_status

FIBROTIC_PERCENT = 5.0
"""Extent of fibrosis from which lung disease counts as fibrotic here, percent of the lung: the project's choice (methods S08)."""

IPF = "IPF"
"""Diagnosis of the clinical table to which progressive pulmonary fibrosis does not apply."""


def scores_of(values: Mapping[str, Any], percent: Mapping[str, float], diagnosis: str | None) -> dict[str, dict[str, Any]]:
    """Return every line of SCORES for a patient: value, stage, the mortality that its authors reported, what is missing.

    Parameters
    ----------
    values : mapping
        Columns of the clinical table on the day of the scan.
    percent : mapping
        Extents of the whole lung by part, percent. Goh's extent of disease is fibrosis with ground glass.
    diagnosis : str or None
        Of the clinical table; ILD-GAP reads it where it names one of its subtypes.

    Examples
    --------
    >>> found = scores_of({"age": 70.0, "sex": "M", "fvc_percent": 60.0}, {"fibrosis": 20.0, "ggo": 5.0}, "IPF")
    >>> found["goh"]["stage"], found["gap"]["value"], found["gap"]["missing"]
    ('extensive', None, ['dlco_percent'])
    """
    known = dict(values) | ({"subtype": diagnosis} if diagnosis in SUBTYPES else {})
    if "fibrosis" in percent and "ggo" in percent:
        known["extent_percent"] = percent["fibrosis"] + percent["ggo"]
    out = {}
    for name, spec in SCORES.items():
        try:
            said = asdict(score_of(name, known))
        except BadInput as error:
            out[name] = {"title": spec.title, "value": None, "stage": None, "risk": {}, "missing": [], "refused": error.rule, "source": spec.source}
            continue
        out[name] = {
            "title": spec.title,
            "value": said["value"],
            "stage": said["stage"],
            "risk": {str(years): share for years, share in said["risk"].items()},
            "missing": list(said["missing"]),
            "source": spec.source,
        }
    return out


def progression_of(
    visits: Sequence[Mapping[str, Any]], *, years: float | None, signs: Sequence[str] | None, fibrosis: float | None, diagnosis: str | None
) -> dict[str, Any]:
    """Return whether fibrosis is progressive by the criteria of 2022, between an earlier and a later visit.

    Parameters
    ----------
    visits : sequence of two mappings
        Columns of the clinical table on the day of the earlier and of the later scan; empty where there is no table.
    years : float or None
        Between them.
    signs : sequence of str or None
        Of `signs_of`.
    fibrosis : float or None
        Percent of the lung at the later visit.
    diagnosis : str or None
        Of the clinical table.

    Returns
    -------
    dict
        ``status`` (met, not met, insufficient data, does not apply), ``criteria`` and ``why`` where it does not apply or nothing can be said.

    Examples
    --------
    >>> now = {"fvc_percent": 70.0}
    >>> progression_of([{"fvc_percent": 80.0}, now], years=0.8, signs=("more_reticulation",), fibrosis=20.0, diagnosis=None)["status"]
    'met'
    >>> progression_of([{}, {}], years=2.0, signs=None, fibrosis=20.0, diagnosis=None)["status"]
    'insufficient data'
    """
    unknown = {"status": "insufficient data", "criteria": dict.fromkeys(("symptoms", "physiology", "radiology")), "signs": list(signs or ())}
    if diagnosis == IPF:
        return unknown | {"status": "does not apply", "why": "the diagnosis is IPF"}
    if fibrosis is None:
        return unknown | {"why": "the extent of fibrosis is not known"}
    if fibrosis < FIBROTIC_PERCENT:
        return unknown | {"status": "does not apply", "why": f"less than {FIBROTIC_PERCENT:g} % of the lung is fibrotic"}
    if not years or years <= 0:
        return unknown | {"why": "the time between the visits is not known"}
    first, second = (_visit(values) for values in visits)
    if signs is not None:
        second["radiology"] = tuple(signs)
    found: Progression = ppf_status([first | {"years": 0.0}, second | {"years": years}])
    why = "" if found.years is not None else "the visits are more than a year apart"
    return {"status": found.status, "criteria": found.criteria, "signs": list(signs or ()), "why": why}


def _visit(values: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: values[name] for name in ("fvc_percent", "dlco_percent") if name in values}
    return out | ({"worse_symptoms": bool(values["worse_symptoms"])} if "worse_symptoms" in values else {})
