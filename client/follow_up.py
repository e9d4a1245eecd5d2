"""What a patient's visits say together: the change of extents, the criteria of progression, and the clinical scores of the latest visit."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client.cases.clinical import ClinicalTable
from client.dicom.acquisition import Acquisition
from client.hrct.change import changes_of, signs_of
from client.hrct.clinical import progression_of, scores_of
from client.pattern_maps import PatternSource
from client.prediction import SeriesPrediction

YEAR_DAYS = 365.25


@dataclass(frozen=True)
class Line:
    """A series with what names its patient and day; these stay in memory.

    Parameters
    ----------
    patient_id, day : str
        Of the header; the day as YYYYMMDD, or empty.
    said : SeriesPrediction
        What was measured and predicted.
    acquisition : Acquisition
        Age and sex of the header.
    """

    patient_id: str
    day: str
    said: SeriesPrediction
    acquisition: Acquisition

    def values(self, table: ClinicalTable | None) -> dict[str, Any]:
        """Return the columns of the clinical table on this day, over age and sex of the header; nothing without a table."""
        if table is None:
            return {}
        known = {"age": self.acquisition.age_years, "sex": self.acquisition.sex or None}
        return {name: value for name, value in known.items() if value is not None} | table.values(self.patient_id, self.day)

    @property
    def whole(self) -> dict[str, Any] | None:
        """Quantities of both lungs; None without a pattern map."""
        return None if self.said.quantities is None else self.said.quantities["regions"]["whole"]


def years_between(first: str, second: str) -> float | None:
    """Return the years between two days (YYYYMMDD); None where one is not known.

    Examples
    --------
    >>> round(years_between("20230101", "20240101"), 3), years_between("", "20240101")
    (0.999, None)
    """
    try:
        days = [datetime.date.fromisoformat(f"{day[:4]}-{day[4:6]}-{day[6:]}") for day in (first, second)]
    except ValueError:
        return None
    return (days[1] - days[0]).days / YEAR_DAYS


def change_told(lines: Sequence[Line], source: PatternSource | None, table: ClinicalTable | None) -> dict[str, Any] | None:
    """Return what ``prediction.json`` says of the change between the headline and the best series of the visit before; None with one visit.

    Parameters
    ----------
    lines : sequence of Line
        The headline first, then by visit from the latest, the best series of each first.
    source : PatternSource or None
        What made the pattern maps: it holds how its extents agree with drawn ones.
    table : ClinicalTable or None
        Lung function and symptoms.
    """
    later = lines[0]
    earlier = next((line for line in lines if line.said.visit < later.said.visit), None)
    if earlier is None:
        return None
    head = {"series": [earlier.said.series, later.said.series], "years": years_between(earlier.day, later.day)}
    if source is None or earlier.whole is None or later.whole is None:
        return head | {"needs": "a pattern map of both visits"}
    changes = changes_of(earlier.whole, later.whole, years=head["years"], agreement=source.agreement or {})
    progression = progression_of(
        [earlier.values(table), later.values(table)],
        years=head["years"],
        signs=signs_of(changes),
        fibrosis=later.whole["percent"].get("fibrosis"),
        diagnosis=None if table is None else table.diagnosis(later.patient_id),
    )
    volumes = [line.whole["lung_ml"] for line in (earlier, later) if line.whole is not None]
    return head | {"needs": None, "lung_ml": volumes, "limits_known": bool(source.agreement), "parts": changes, "progression": progression}


def scores_told(line: Line, table: ClinicalTable) -> dict[str, Any]:
    """Return the clinical scores of the patient on the day of the headline."""
    percent = {} if line.whole is None else line.whole["percent"]
    return scores_of(line.values(table), percent, table.diagnosis(line.patient_id))
