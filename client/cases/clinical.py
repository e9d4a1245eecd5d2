"""The hospital's clinical table: diagnosis, lung function and outcome by patient and day, checked cell by cell."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.cases.identity import canonical_id
from client.cases.outcome_rows import check_outcomes
from shared_models.core.errors import BadCohort
from shared_models.experiment import FINDING


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"must lie between {low:g} and {high:g}")
        return value

    return read


def _age(text: str) -> float:
    years = _number(0, 130)(text)
    return 90.0 if years > 89 else years


def _one_of(words: dict[str, str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.casefold() not in words:
            raise ValueError(f"must be one of {', '.join(sorted(set(words.values())))}")
        return words[text.casefold()]

    return read


COLUMNS: dict[str, Callable[[str], float | str]] = {
    "diagnosis": str,
    "age": _age,
    "sex": _one_of({"m": "M", "male": "M", "f": "F", "female": "F"}),
    "smoking": _one_of({"never": "never", "former": "former", "ex": "former", "current": "current"}),
    "fvc_percent": _number(5, 250),
    "dlco_percent": _number(5, 250),
    "fev1_percent": _number(5, 250),
    "worse_symptoms": _number(0, 1),
    "time_years": _number(0, 100),
    "event": _number(0, 9),
}
"""Columns besides patient_id and study_date, each with what reads a cell. Ages over 89 become 90; an empty cell is a missing value;
``worse_symptoms`` (0 or 1) is since the visit before."""


def _present(text: str) -> float:
    if text not in ("0", "1"):
        raise ValueError("must be 1 (present) or 0 (absent), or empty where it is not known")
    return float(text)


def reader_of(name: str) -> Callable[[str], float | str] | None:
    """Return what reads the cells of a column: a line of `COLUMNS`, 0 or 1 of a column ``finding_NAME``, None for a column that is not known.

    Examples
    --------
    >>> reader_of("finding_ggo")("1"), reader_of("shoe_size")
    (1.0, None)
    """
    return COLUMNS.get(name, _present if FINDING.fullmatch(name) else None)


@dataclass(frozen=True)
class ClinicalRow:
    """One line of the table. `day` is YYYYMMDD, or empty when the line holds for all visits of the patient."""

    patient: str
    day: str
    values: dict[str, float | str]


@dataclass(frozen=True)
class ClinicalTable:
    """The table by canonical patient id."""

    rows: tuple[ClinicalRow, ...] = ()

    def diagnosis(self, patient_id: str) -> str | None:
        """Return the patient's one diagnosis, or None where it is not known."""
        patient = canonical_id(patient_id)
        found = {str(row.values["diagnosis"]) for row in self.rows_of(patient) if "diagnosis" in row.values}
        return next(iter(found), None)

    def rows_of(self, patient_id: str) -> list[ClinicalRow]:
        """Return the patient's lines."""
        patient = canonical_id(patient_id)
        return [row for row in self.rows if row.patient == patient]

    def values(self, patient_id: str, day: str) -> dict[str, float | str]:
        """Return what is known of a patient on `day` (YYYYMMDD): lines without a day, overruled by lines of that day.

        ``male`` and ``ever_smoker`` (0 or 1) stand beside ``sex`` and ``smoking`` for models that take numbers only.
        """
        out: dict[str, float | str] = {}
        for row in sorted(self.rows_of(patient_id), key=lambda r: r.day):
            if row.day in ("", day):
                out |= {name: value for name, value in row.values.items() if name != "diagnosis"}
        return with_numbers(out)


def with_numbers(values: dict[str, float | str]) -> dict[str, float | str]:
    """Add ``male`` and ``ever_smoker`` where ``sex`` and ``smoking`` are known.

    Examples
    --------
    >>> with_numbers({"sex": "F", "smoking": "former"})
    {'sex': 'F', 'smoking': 'former', 'male': 0.0, 'ever_smoker': 1.0}
    """
    out = dict(values)
    if "sex" in out:
        out["male"] = float(out["sex"] == "M")
    if "smoking" in out:
        out["ever_smoker"] = float(out["smoking"] != "never")
    return out


def read_clinical(path: Path, *, extra_columns: Literal["refuse", "ignore"] = "refuse") -> ClinicalTable:
    """Read ``clinical.csv``: comma-separated, UTF-8, a header line, columns patient_id, study_date and any of `COLUMNS`,
    and ``finding_NAME`` of what a reader found (1 present, 0 absent).

    Parameters
    ----------
    path : Path
        The table.
    extra_columns : str
        What to do with columns that are not known: refuse the table, or leave them out.

    Raises
    ------
    BadCohort
        Naming row and column of the first bad cell, the unknown or missing column, or the rows that contradict each other. No cell of
        patient_id is ever repeated in a message.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise BadCohort("the clinical table must exist", value=Path(path).name, remedy="check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadCohort("the clinical table must be comma-separated UTF-8", value=type(error).__name__, remedy="save it as CSV UTF-8") from None
    header = [name.strip() for name in lines[0]] if lines else []
    if "patient_id" not in header:
        raise BadCohort("the clinical table needs a column patient_id", value=header, remedy="name the columns in its first line")
    if len(set(header)) < len(header):
        raise BadCohort("the clinical table must name each column once", value=header)
    unknown = [name for name in header if reader_of(name) is None and name not in ("patient_id", "study_date")]
    if unknown and extra_columns == "refuse":
        remedy = f"remove it; known columns are patient_id, study_date, {', '.join(COLUMNS)}, finding_NAME"
        raise BadCohort("the clinical table has an unknown column", value=unknown[0], remedy=remedy)
    rows = [_row(header, line, number) for number, line in enumerate(lines[1:], start=2) if any(cell.strip() for cell in line)]
    _agree(rows)
    check_outcomes((number, row.patient, row.day, row.values) for number, row in rows)
    return ClinicalTable(tuple(row for _, row in rows))


def _row(header: list[str], line: list[str], number: int) -> tuple[int, ClinicalRow]:
    if len(line) != len(header):
        raise BadCohort(f"clinical table, row {number}: every row needs {len(header)} cells", value=len(line))
    cells = {name: cell.strip() for name, cell in zip(header, line, strict=True)}
    patient = canonical_id(cells["patient_id"])
    if not patient:
        raise BadCohort(f"clinical table, row {number}, column patient_id: must not be empty")
    values: dict[str, float | str] = {}
    for name, cell in cells.items():
        if (read := reader_of(name)) is None or cell == "":
            continue
        try:
            values[name] = read(cell)
        except ValueError as error:
            text = str(error) if str(error).startswith("must") else "must be a number"
            raise BadCohort(f"clinical table, row {number}, column {name}: {text}", value=cell) from None
    if "event" in values and not float(values["event"]).is_integer():
        raise BadCohort(f"clinical table, row {number}, column event: must be 0 or 1, or the number of another cause up to 9", value=cells["event"])
    if "worse_symptoms" in values and values["worse_symptoms"] not in (0.0, 1.0):
        raise BadCohort(f"clinical table, row {number}, column worse_symptoms: must be 0 or 1", value=cells["worse_symptoms"])
    if ("event" in values) != ("time_years" in values):
        raise BadCohort(f"clinical table, row {number}: time_years and event belong together; one of them is missing")
    return number, ClinicalRow(patient, _day(cells.get("study_date", ""), number), values)


def _day(text: str, number: int) -> str:
    if not text:
        return ""
    try:
        return datetime.date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise BadCohort(f"clinical table, row {number}, column study_date: must be a date such as 2024-05-31") from None


def _agree(rows: list[tuple[int, ClinicalRow]]) -> None:
    diagnosis: dict[str, tuple[int, str]] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, row in rows:
        first = seen.setdefault((row.patient, row.day), number)
        if first != number:
            raise BadCohort(f"clinical table: rows {first} and {number} describe the same patient and day", remedy="keep one of them")
        if "diagnosis" in row.values:
            earlier = diagnosis.setdefault(row.patient, (number, str(row.values["diagnosis"])))
            if earlier[1] != row.values["diagnosis"]:
                rule = f"clinical table: rows {earlier[0]} and {number} give one patient two diagnoses"
                raise BadCohort(rule, value=[earlier[1], row.values["diagnosis"]], remedy="keep one diagnosis per patient")
