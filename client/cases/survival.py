"""Survival as a target: the time to the event or to the day a patient was last seen, and which of the two it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client.cases.cohort import Case, Visit
from shared_models.core.errors import BadCohort
from shared_models.experiment import Data

DAYS_A_YEAR = 365.25
"""Times in a clinical table are years."""
NOT_KNOWN = -1.0
"""Target of a patient whose diagnosis is none of the experiment's, or not known."""


def checked_outcome(time: float, event: float, *, causes: int = 1) -> tuple[int, float]:
    """Return (1 for an event, 0 for last seen or the number of another cause, time).

    Raises
    ------
    BadCohort
        A negative time, or an event that is neither 0 nor one of the `causes`.

    Examples
    --------
    >>> checked_outcome(2.5, 1.0)
    (1, 2.5)
    """
    if not time >= 0:
        raise BadCohort("a time to an event is not negative", value=time)
    if event not in range(causes + 1):
        words = "an event is 1, or 0 for a patient who was last seen without one"
        raise BadCohort(words if causes == 1 else f"{words}, or the number of another cause up to {causes}", value=event)
    return int(event), float(time)


def outcome_of(case: Case, data: Data) -> tuple[int, float] | None:
    """Return event and time of a case, counted from its first visit; None where either is not known: the unknown is no 0.

    Raises
    ------
    BadCohort
        A clinical value that is no time or no event.
    """
    return _stated(case.visits[0], data)


def outcomes_of(case: Case, data: Data) -> tuple[tuple[int, float] | None, ...]:
    """Return event and time of each visit of a case, counted from that visit; None where either is not known.

    A time that stands at a later visit as at the first one was given once for the patient: it counts from the first visit, so the years since
    then are taken off. Nothing is known of a visit after the end of that time, nor where the days between visits were not kept.

    Raises
    ------
    BadCohort
        A clinical value that is no time or no event.
    """
    first = _stated(case.visits[0], data)
    return (first, *(_later(visit, _stated(visit, data), first) for visit in case.visits[1:]))


def followed(cases: Sequence[Case], visits: Sequence[tuple[Visit, ...]], data: Data) -> tuple[list[tuple[Visit, ...]], np.ndarray, np.ndarray]:
    """Return those of the first `visits` of each case whose outcome is known, and of each its event (n,) and its time (n,), counted from it.

    Raises
    ------
    BadCohort
        A case without an outcome at its first visit.
    """
    known, outcomes = [], []
    for case, seen in zip(cases, visits, strict=True):
        found = outcomes_of(case, data)[: len(seen)]
        if found[0] is None:
            raise BadCohort("every training case of survival has a time and an event")
        known.append(tuple(visit for visit, outcome in zip(seen, found, strict=True) if outcome is not None))
        outcomes += [outcome for outcome in found if outcome is not None]
    events, times = np.array(outcomes, np.float64).reshape(-1, 2).T
    return known, events.astype(np.int64), times


def _later(visit: Visit, stated: tuple[int, float] | None, first: tuple[int, float] | None) -> tuple[int, float] | None:
    if stated is None or stated != first:
        return stated
    left = stated[1] - visit.days / DAYS_A_YEAR
    return (stated[0], left) if visit.days > 0 and left >= 0 else None


def _stated(visit: Visit, data: Data) -> tuple[int, float] | None:
    time, event = visit.clinical.get(str(data.time)), visit.clinical.get(str(data.event))
    if time is None or event is None:
        return None
    if isinstance(time, str) or isinstance(event, str):
        raise BadCohort("time and event are numbers", value=[data.time, data.event])
    return checked_outcome(time, event, causes=len(data.classes) - 1)


def diagnosis_numbers(said: Sequence[str | None], data: Data) -> np.ndarray | None:
    """Return the number of each diagnosis among ``data.diagnoses``, `NOT_KNOWN` where it is none of them; None where none are learnt.

    Examples
    --------
    >>> print(diagnosis_numbers(["UIP", None], Data(target="survival", horizons=(1.0,), diagnoses=("NSIP", "UIP"))))
    [ 1. -1.]
    """
    if not data.diagnoses:
        return None
    return np.array([data.diagnoses.index(one) if one in data.diagnoses else NOT_KNOWN for one in said], np.float64)
