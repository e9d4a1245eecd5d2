"""A clinical table as the data themselves: one CSV line a patient, for federations without images.

    patient_id,age,cp,diagnosis,part
    17,63,1,absent,training

``patient_id`` names the patient: several lines of one are several records of one patient (without the column every line is a patient of
its own). ``part`` (``training`` or ``validation``) fixes the split; without it a keyed hash of the patient decides. Any other column may
be named by an experiment, as a number (``age``) or as the indicator of one value (``cp=2``); the order and the categories stand in the
experiment, so every site builds the same columns whatever values it happens to hold. ``years`` says when after the patient's first visit a
line was made: an experiment of courses (``inputs.visits = "course"``) makes one record of a patient's lines.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.cases.identity import canonical_id
from client.cases.survival import checked_outcome
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data, Experiment

MISSING = frozenset(("", "?", "na", "nan", "null", "none"))
PARTS = ("training", "validation")
YEARS = "years"
"""Column of a course: time since the patient's first visit."""


@dataclass(frozen=True)
class Table:
    """Rows of a site that an experiment can use.

    Parameters
    ----------
    values : ndarray, shape (n, columns), float64
        NaN where a cell is missing and the experiment fills it in.
    labels : ndarray of int64, shape (n,)
        Class numbers; of survival 1 for an event, 0 for a patient who was last seen without one, 2 and more for other causes; of a row of a course
        that does not say it -1.
    names : tuple of str
        The patient of each row.
    parts : tuple of str
        ``training``, ``validation`` or empty where the table does not say.
    identified : bool
        Whether the table says which patient a row is of.
    times : ndarray of float64, shape (n,), optional
        Time to the event or to the day last seen, of survival alone.
    years : ndarray of float64, shape (n,), optional
        Since the patient's first visit, of a course alone.
    diagnoses : tuple of str, optional
        What stands in the column of the diagnosis, where it is learnt beside survival.
    rows : tuple of int
        Number of each row in the file, for messages.
    """

    values: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    parts: tuple[str, ...]
    identified: bool
    times: np.ndarray | None = None
    years: np.ndarray | None = None
    diagnoses: tuple[str, ...] | None = None
    rows: tuple[int, ...] = ()


def read_table(path: Path, experiment: Experiment) -> Table:
    """Read a table as `experiment` wants it.

    Rows whose label (of survival: time or event) is missing or no class are left out; so are rows with a missing cell when ``inputs.missing``
    is ``drop``.

    Raises
    ------
    BadCohort
        Naming the row and the column, never the patient.
    """
    header, lines = _lines(path)
    data = experiment.data
    labelled = [data.label] if data.target == "diagnosis" else [str(data.time), str(data.event)]
    course = [YEARS] if experiment.inputs.visits == "course" else []
    labelled += course + ([data.label] if data.diagnoses else [])
    columns = [_Column.of(name) for name in experiment.inputs.columns]
    wanted = [*labelled, *(column.source for column in columns)]
    if absent := sorted(set(wanted) - set(header)):
        raise BadCohort("the table must have every column that the experiment names", value=absent, remedy=f"it has {', '.join(header)}")
    values, labels, names, parts, times, years, said, rows = [], [], [], [], [], [], [], []
    for number, line in lines:
        cells = dict(zip(header, line, strict=True))
        outcome = _outcome(cells, data, number)
        if outcome is None and not course:
            continue
        outcome = (-1, math.nan) if outcome is None else outcome  # of a later visit: the first one says what became of the patient
        row = [column.read(cells[column.source], number) for column in columns]
        if experiment.inputs.missing == "drop" and any(map(math.isnan, row)):
            continue
        part = cells.get("part", "")
        if part not in ("", *PARTS):
            raise BadCohort(f"table, row {number}, column part: must be training, validation or empty", value=part)
        values.append(row)
        rows.append(number)
        labels.append(outcome[0])
        times.append(outcome[1])
        names.append(canonical_id(cells["patient_id"]) if "patient_id" in cells else f"row{number}")
        parts.append(part)
        years += [_years_of(cells[YEARS], number)] if course else []
        said += [cells[data.label]] if data.diagnoses else []
    table = np.array(values, np.float64).reshape(len(values), len(columns))
    seen = np.array(times, np.float64) if data.target == "survival" else None
    when, diagnoses = np.array(years, np.float64) if course else None, tuple(said) if data.diagnoses else None
    return Table(table, np.array(labels, np.int64), tuple(names), tuple(parts), "patient_id" in header, seen, when, diagnoses, tuple(rows))


def _years_of(cell: str, number: int) -> float:
    value = _Column.of(YEARS).read(cell, number)
    if not value >= 0:
        raise BadCohort(f"table, row {number}, column {YEARS}: a visit is at a known time after the first one")
    return value


def _outcome(cells: dict[str, str], data: Data, number: int) -> tuple[int, float] | None:
    """Return the class number, and of survival the time; None where they are not known: the unknown is no 0."""
    if data.target == "diagnosis":
        klass = data.merge.get(cells[data.label], cells[data.label])
        return (data.classes.index(klass), math.nan) if klass in data.classes else None
    time, event = (_Column.of(str(name)).read(cells[str(name)], number) for name in (data.time, data.event))
    if math.isnan(time) or math.isnan(event):
        return None
    try:
        return checked_outcome(time, event, causes=len(data.classes) - 1)
    except BadCohort as error:
        column = data.event if time >= 0 else data.time
        raise BadCohort(f"table, row {number}, column {column}: {error.rule}", value=error.value) from None


@dataclass(frozen=True)
class _Column:
    name: str
    source: str
    value: str | None

    @staticmethod
    def of(name: str) -> _Column:
        source, is_indicator, value = name.partition("=")
        return _Column(name, source, value if is_indicator else None)

    def read(self, cell: str, number: int) -> float:
        if cell.casefold() in MISSING:
            return math.nan
        if self.value is not None:
            return float(_same(cell, self.value))
        try:
            value = float(cell)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            raise BadCohort(
                f"table, row {number}, column {self.source}: must be a number", remedy=f'a category is named by its value: "{self.source}=..."'
            )
        return value


def _same(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)  # 2 and 2.0 are one category
    except ValueError:
        return cell == value


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except FileNotFoundError:
        raise BadCohort("the table must exist", value=path.name, remedy="check `table` in site.toml") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadCohort("the table must be comma-separated UTF-8", value=type(error).__name__, remedy="save it as CSV UTF-8") from None
    header = lines[0] if lines else []
    if len(set(header)) < len(header) or not all(header):
        raise BadCohort("the table names each column once, in its first line", value=header)
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if any(line)]
    for number, line in rows:
        if len(line) != len(header):
            raise BadCohort(f"table, row {number}: every row needs {len(header)} cells", value=len(line))
    return header, rows
