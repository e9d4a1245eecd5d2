"""Patients with their visits as records: one row a patient, its outcome from the landmark, its diagnosis for a second head."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from client.cases.cohort import Case
from client.cases.course import course_row, from_landmark, years_of
from client.cases.course_rows import check_course
from client.cases.survival import diagnosis_numbers, outcome_of
from client.cases.table import Table
from client.training.records import Records, table_row
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment


def course_records(cases: Sequence[Case], experiment: Experiment) -> Records:
    """Turn cases into records of ``inputs.visits = "course"``; `cohort_of` has left out who was no longer followed at the landmark.

    Raises
    ------
    BadCohort
        A case without a label or an outcome.
    """
    inputs, data = experiment.inputs, experiment.data
    rows = [course_row(years_of(case.visits), _values(case, experiment), inputs) for case in cases]
    stacked = np.stack(rows) if rows else np.zeros((0, inputs.most_visits * (1 + len(inputs.columns))))
    names = tuple(case.pseudonym for case in cases)
    if data.target != "survival":
        if any(case.label not in data.classes for case in cases):
            raise BadCohort("every training case has one of the experiment's classes")
        return Records(stacked, np.array([data.classes.index(str(case.label)) for case in cases], np.int64), names)
    outcomes = [from_landmark(outcome_of(case, data), inputs) for case in cases]
    if None in outcomes:
        raise BadCohort("every training case of survival has a time and an event after the landmark")
    events, times = np.array(outcomes, np.float64).reshape(-1, 2).T
    targets = diagnosis_numbers([case.diagnosis for case in cases], data)
    return Records(stacked, events.astype(np.int64), names, times=times, targets=targets)


def table_courses(table: Table, experiment: Experiment) -> Records:
    """Turn the rows of a table into records of patients in the order in which they first come; labels and outcome are those of the first visit.

    Raises
    ------
    BadCohort
        Visits of a patient without a first one or two at one time, outcomes that contradict each other; naming the rows and the column.
    """
    inputs, data, years = experiment.inputs, experiment.data, table.years
    if years is None or not table.identified:
        raise BadCohort("a course needs to know whose each row is and when it was", remedy="give the table columns patient_id and years")
    order: dict[str, list[int]] = {}
    for number, name in enumerate(table.names):
        order.setdefault(name, []).append(number)
    rows, firsts, kept, outcomes = [], [], [], []
    for name, numbers in order.items():
        told = [(int(table.labels[n]), math.nan if table.times is None else float(table.times[n])) for n in numbers]
        check_course([table.rows[number] for number in numbers], years[numbers].tolist(), told)
        first = min(numbers, key=lambda number: years[number])
        outcome = (int(table.labels[first]), 0.0 if table.times is None else float(table.times[first]))
        if outcome[0] < 0 or (table.times is not None and (outcome := from_landmark(outcome, inputs)) is None):
            continue
        rows.append(course_row(years[numbers].tolist(), table.values[numbers], inputs))
        firsts.append(first)
        kept.append(name)
        outcomes.append(outcome)
    stacked = np.stack(rows) if rows else np.zeros((0, inputs.most_visits * (1 + len(inputs.columns))))
    labels = np.array([outcome[0] for outcome in outcomes], np.int64)
    times = None if table.times is None else np.array([outcome[1] for outcome in outcomes], np.float64)
    said = None if table.diagnoses is None else diagnosis_numbers([table.diagnoses[first] for first in firsts], data)
    return Records(stacked, labels, tuple(kept), times=times, targets=said)


def _values(case: Case, experiment: Experiment) -> np.ndarray:
    return np.stack([table_row(visit, experiment.inputs.columns, gaps=True) for visit in case.visits])
