"""Whether the rows of a patient in a table of visits make one course: a first visit, no two at one time, one outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from client.cases.course import Outcome
from client.cases.outcome_rows import DAYS_A_YEAR, SLACK_DAYS
from shared_models.core.errors import BadCohort


def check_course(rows: Sequence[int], years: Sequence[float], outcomes: Sequence[Outcome]) -> None:
    """Refuse rows of one patient that contradict one another.

    A time counts from the visit of its row, or is that of the first visit written once more; a row may leave the outcome out.

    Parameters
    ----------
    rows : sequence of int
        Numbers of the rows in the file.
    years : sequence of float
        Of each visit since the first.
    outcomes : sequence of (event, time)
        Event -1 or time NaN where the row tells none.

    Raises
    ------
    BadCohort
        Naming the rows and the column, never the patient.

    Examples
    --------
    >>> check_course([2, 3], [0.0, 1.0], [(1, 4.0), (1, 3.0)])
    >>> try:
    ...     check_course([2, 5], [0.0, 1.0], [(1, 4.0), (0, 3.0)])
    ... except BadCohort as error:
    ...     print(error.rule)
    table, rows 2 and 5, column event: one patient has two outcomes
    """
    by_time = sorted(range(len(rows)), key=lambda place: (years[place], rows[place]))
    first = by_time[0]
    if years[first] != 0:
        rule = f"table, row {rows[first]}, column years: the years of a patient's visits count from the first, which is at 0"
        raise BadCohort(rule, value=years[first], remedy="add the first visit, or count from this one")
    for one, other in pairwise(by_time):
        if years[one] == years[other]:
            rule = f"table, rows {rows[one]} and {rows[other]}, column years: two visits of a patient are not at one time"
            raise BadCohort(rule, value=years[one], remedy="keep one of them")
    event, time = outcomes[first]
    for place in by_time[1:]:
        again, left = outcomes[place]
        if again < 0 or math.isnan(left) or event < 0:
            continue
        if again != event:
            rule = f"table, rows {rows[first]} and {rows[place]}, column event: one patient has two outcomes"
            raise BadCohort(rule, value=[event, again], remedy="give the outcome that was seen last in all rows")
        if left != time and abs(years[place] + left - time) * DAYS_A_YEAR > SLACK_DAYS:
            rule = f"table, rows {rows[first]} and {rows[place]}, column time: the times of one patient end on two days"
            raise BadCohort(rule, value=[time, left], remedy="count each time from the visit of its row")
    _nobody_comes_back(rows, years, event, time, by_time)


def _nobody_comes_back(rows: Sequence[int], years: Sequence[float], event: int, time: float, by_time: Sequence[int]) -> None:
    last = by_time[-1]
    if event > 0 and years[last] > time + SLACK_DAYS / DAYS_A_YEAR:
        rule = f"table, rows {rows[by_time[0]]} and {rows[last]}, column years: a visit after the event"
        raise BadCohort(rule, value=[time, years[last]], remedy="correct the years, the time or the event")
