"""Whether the rows of a patient tell one story: one end, on one day, and no visit after it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

from shared_models.core.errors import BadCohort

DAYS_A_YEAR = 365.25
SLACK_DAYS = 31
"""Ends of two rows may lie so far apart: times are rounded to months."""


def check_outcomes(rows: Iterable[tuple[int, str, str, Mapping[str, float | str]]]) -> None:
    """Refuse rows of a patient whose times and events contradict each other.

    A time counts from the day of its row. The same time in all rows of a patient was given once and is not compared.

    Parameters
    ----------
    rows : iterable
        Number of the row in the file, patient, day as YYYYMMDD (empty where the row holds for all visits) and values.

    Raises
    ------
    BadCohort
        Naming the two rows and the column, never the patient.
    """
    of_patient: dict[str, list[tuple[int, str, Mapping[str, float | str]]]] = {}
    for number, patient, day, values in rows:
        of_patient.setdefault(patient, []).append((number, day, values))
    for own in of_patient.values():
        told = [(number, day, float(values["time_years"]), float(values["event"])) for number, day, values in own if "event" in values]
        if len(own) > 1 and told:
            _agree(told)
            _nobody_comes_back(told, [(number, day) for number, day, _ in own])


def _agree(told: list[tuple[int, str, float, float]]) -> None:
    first = told[0]
    for other in told[1:]:
        if other[3] != first[3]:
            rule = f"clinical table, rows {first[0]} and {other[0]}, column event: one patient has two outcomes"
            raise BadCohort(rule, value=[first[3], other[3]], remedy="give the outcome that was seen last in all rows")
        if first[1] and other[1] and first[2] != other[2] and abs(_end(first) - _end(other)) > SLACK_DAYS:
            rule = f"clinical table, rows {first[0]} and {other[0]}, column time_years: the times of one patient end on two days"
            raise BadCohort(rule, value=[first[2], other[2]], remedy="count each time from the study_date of its row")


def _nobody_comes_back(told: list[tuple[int, str, float, float]], visits: list[tuple[int, str]]) -> None:
    dated = [row for row in told if row[1] and row[3] == 1]
    end = min((_end(row) for row in dated), default=None)
    for number, day in visits:
        if end is not None and day and _ordinal(day) > end + SLACK_DAYS:
            rule = f"clinical table, rows {dated[0][0]} and {number}, column study_date: a visit after the event"
            raise BadCohort(rule, remedy="correct the date, the time or the event")


def _end(row: tuple[int, str, float, float]) -> float:
    return _ordinal(row[1]) + row[2] * DAYS_A_YEAR


def _ordinal(day: str) -> int:
    return datetime.datetime.strptime(day, "%Y%m%d").toordinal()
