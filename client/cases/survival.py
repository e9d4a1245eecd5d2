"""Survival as a target: the time to the event or to the day a patient was last seen, and which of the two it is."""

from __future__ import annotations

from client.cases.cohort import Case
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data


def checked_outcome(time: float, event: float) -> tuple[int, float]:
    """Return (1 for an event or 0 for last seen, time).

    Raises
    ------
    BadCohort
        A negative time, or an event that is neither 0 nor 1.

    Examples
    --------
    >>> checked_outcome(2.5, 1.0)
    (1, 2.5)
    """
    if not time >= 0:
        raise BadCohort("a time to an event is not negative", value=time)
    if event not in (0.0, 1.0):
        raise BadCohort("an event is 1, or 0 for a patient who was last seen without one", value=event)
    return int(event), float(time)


def outcome_of(case: Case, data: Data) -> tuple[int, float] | None:
    """Return event and time of a case, counted from its first visit; None where either is not known: the unknown is no 0.

    Raises
    ------
    BadCohort
        A clinical value that is no time or no event.
    """
    known = case.visits[0].clinical
    time, event = known.get(str(data.time)), known.get(str(data.event))
    if time is None or event is None:
        return None
    if isinstance(time, str) or isinstance(event, str):
        raise BadCohort("time and event are numbers", value=[data.time, data.event])
    return checked_outcome(time, event)
