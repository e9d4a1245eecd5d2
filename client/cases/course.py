"""The course of a patient as one row: visits up to the day of the prediction, what was known at each, and the outcome counted from that day."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from client.cases.cohort import Visit
from client.cases.survival import DAYS_A_YEAR
from shared_models.core.errors import BadCohort
from shared_models.experiment import Inputs

Outcome = tuple[int, float]
"""Event (or cause) and time."""


def years_of(visits: Sequence[Visit]) -> list[float]:
    """Return when each visit was, in years since the first; NaN of a later one whose days were not kept."""
    return [visit.days / DAYS_A_YEAR if number == 0 or visit.days > 0 else float("nan") for number, visit in enumerate(visits)]


def seen_of(years: Sequence[float], inputs: Inputs) -> list[int]:
    """Return the numbers of the visits that a prediction at the landmark sees, in order of time: the first, and of the others the latest.

    Raises
    ------
    BadCohort
        A patient without a first visit, or with two visits at one time.

    Examples
    --------
    >>> inputs = Inputs(visits="course", columns=("x",), missing="mask", scale="range", ranges={"x": (0, 1)}, most_visits=2, landmark_years=1.5)
    >>> seen_of([0.5, 0.0, 2.0, 1.4, float("nan")], inputs)
    [1, 3]
    """
    told = sorted((year, number) for number, year in enumerate(years) if year == year)
    if not told or told[0][0] != 0:
        raise BadCohort("the years of a patient's visits count from the first, which is at 0", value=None if not told else told[0][0])
    if any(one[0] == other[0] for one, other in pairwise(told)):
        raise BadCohort("two visits of a patient are not at one time", remedy="keep one of them")
    last = float("inf") if inputs.landmark_years is None else inputs.landmark_years
    numbers = [number for year, number in told if year <= last]
    return numbers[:1] + (numbers[1:][-(inputs.most_visits - 1) :] if inputs.most_visits > 1 else [])


def course_row(years: Sequence[float], rows: np.ndarray, inputs: Inputs) -> np.ndarray:
    """Return a patient's row: of each visit that is seen its years and its columns, then NaN for visits that did not happen.

    Parameters
    ----------
    years : sequence of float
        Of all visits, since the first.
    rows : ndarray, shape (visits, columns)
        What was known at each, NaN where nothing is.

    Returns
    -------
    ndarray of float64, shape (most_visits * (1 + columns),)
    """
    out = np.full((inputs.most_visits, 1 + len(inputs.columns)), np.nan)
    for place, number in enumerate(seen_of(years, inputs)):
        out[place] = [years[number], *in_ranges(rows[number], inputs)]
    return out.ravel()


def in_ranges(row: np.ndarray, inputs: Inputs) -> np.ndarray:
    """Return values mapped from their public ranges to -1..1 and cut off there; NaN stays NaN."""
    low, high = np.array([inputs.ranges.get(name, (0.0, 1.0)) for name in inputs.columns]).T
    return np.clip(2 * (row - low) / (high - low) - 1, -1, 1)


def from_landmark(outcome: Outcome | None, inputs: Inputs) -> Outcome | None:
    """Return event and time counted from the landmark; None of a patient who was no longer followed then, or of whom nothing is known.

    Examples
    --------
    >>> inputs = Inputs(visits="course", columns=("x",), missing="mask", scale="range", ranges={"x": (0, 1)}, landmark_years=1.5)
    >>> from_landmark((1, 4.0), inputs), from_landmark((0, 1.5), inputs)
    ((1, 2.5), None)
    """
    if inputs.visits != "course" or outcome is None:
        return outcome
    left = outcome[1] - (inputs.landmark_years or 0.0)
    return (outcome[0], left) if left > 0 else None
