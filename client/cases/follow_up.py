"""Who of a cohort was followed for how long: patients, visits, events, losses, and the median follow-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from client.cases.cohort import Case
from shared_models.survival.life_table import kaplan_meier, life_table


@dataclass(frozen=True)
class FollowUp:
    """One line of a table of cohorts.

    Parameters
    ----------
    patients, visits : int
        In all, and their scans.
    known : int
        Patients whose time and event are known.
    events : tuple of int
        Of each cause.
    lost : int
        Patients last seen without an event.
    median, longest : float or None
        Follow-up in the unit of the times: its median by the reverse Kaplan-Meier method, None where fewer than half of the patients are
        followed to an end that is no event; the longest time of a patient.
    """

    patients: int
    visits: int
    known: int
    events: tuple[int, ...]
    lost: int
    median: float | None
    longest: float | None

    def row(self) -> dict[str, Any]:
        """Return the line for JSON."""
        return asdict(self) | {"events": list(self.events)}


def follow_up_words(line: Mapping[str, Any]) -> str:
    """Return the line of a cohort in words.

    Examples
    --------
    >>> follow_up_words(FollowUp(30, 41, 28, (9, 2), 17, 3.25, 7.9).row())
    'followed          30 patients, 41 visits; outcome known of 28: 9 + 2 events, 17 last seen without; median follow-up 3.25, longest 7.9'
    """
    events = " + ".join(str(count) for count in line["events"])
    median = "not reached" if line["median"] is None else f"{line['median']:.3g}"
    said = f"{events} events, {line['lost']} last seen without; median follow-up {median}, longest {line['longest']:.3g}"
    return f"{'followed':12s} {line['patients']:7d} patients, {line['visits']} visits; outcome known of {line['known']}: {said}"


def median_follow_up(times: ArrayLike, causes: ArrayLike) -> float | None:
    """Return the median follow-up by the reverse Kaplan-Meier method: the time by which half would have been lost if nobody had had an event.

    None where the curve does not fall to one half.

    Source: Schemper & Smith, A note on quantifying follow-up in studies of failure time, Control Clin Trials 1996;17:343.

    Examples
    --------
    >>> median_follow_up([1, 2, 3, 4, 5], [1, 0, 0, 1, 0])
    3.0
    """
    lost = (np.asarray(causes) == 0).astype(int)
    curve = kaplan_meier(life_table(times, lost))
    below = np.flatnonzero(curve.values <= 0.5 + 1e-12)
    return float(curve.times[below[0]]) if len(below) else None


def follow_up_of(times: ArrayLike, causes: ArrayLike, *, patients: int, visits: int, kinds: int = 1) -> FollowUp:
    """Return the line of patients of whom these times and causes (0: last seen) are known."""
    t, c = np.asarray(times, np.float64), np.asarray(causes, np.int64)
    events = tuple(int((c == kind).sum()) for kind in range(1, kinds + 1))
    longest = float(t.max()) if len(t) else None
    return FollowUp(patients, visits, len(t), events, int((c == 0).sum()), median_follow_up(t, c) if len(t) else None, longest)


def follow_up_of_cases(cases: Sequence[Case], *, time: str = "time_years", event: str = "event") -> FollowUp:
    """Return the line of a prepared cohort, followed from each patient's first visit."""
    known = [(case.visits[0].clinical.get(time), case.visits[0].clinical.get(event)) for case in cases]
    told = np.array([pair for pair in known if all(isinstance(value, int | float) for value in pair)], np.float64).reshape(-1, 2)
    kinds = max(1, int(told[:, 1].max(initial=1)))
    return follow_up_of(told[:, 0], told[:, 1], patients=len(cases), visits=sum(len(case.visits) for case in cases), kinds=kinds)
