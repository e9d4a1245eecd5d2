"""How each site of a run stands, told from what is on disk: the log of rounds, ``run.json``, the register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.reports.wording import ranges_text

APPROVAL = " (to approve)"
"""What ``run.json`` adds to a site where a person has to approve the experiment first."""

STATES = {
    "expected": ("idle", "…", "has not taken part yet"),
    "joined": ("good", "✓", "takes part"),
    "returned": ("good", "↩", "takes part again"),
    "apart": ("idle", "–", "was not drawn in the last round"),
    "late": ("idle", "…", "is still at work"),
    "waiting": ("warn-state", "…", "is being waited for"),
    "to approve": ("warn-state", "!", "has not approved the experiment yet"),
    "dropped": ("bad", "✗", "was missing in the last round"),
    "refused": ("bad", "✗", "was refused in the last round"),
    "revoked": ("bad", "✗", "its key was revoked"),
}
"""States of a site in a run: the tone of its mark, the mark, what it means."""

TOOK, MISSED, APART, NOTHING = "took", "missed", "apart", ""
"""What a site was to a round: an update was taken, none was, it was not asked or is late; not there yet."""


@dataclass(frozen=True)
class SiteStanding:
    """One site of a run. `course` holds one of `TOOK`, `MISSED`, `APART`, `NOTHING` for each round."""

    name: str
    state: str
    code: str = ""
    since: int = 0
    took: int = 0
    missed: tuple[int, ...] = ()
    bytes: int = 0
    patients: int = 0
    course: tuple[str, ...] = field(default=(), repr=False)

    @property
    def words(self) -> str:
        """What its state means, with the round since which it takes part."""
        means = STATES[self.state][2] + (f": {self.code}" if self.code and self.state == "refused" else "")
        return f"{means} since round {self.since}" if self.since and self.state in ("joined", "returned") else means

    @property
    def missed_text(self) -> str:
        """Its missed rounds as a phrase."""
        return ranges_text(self.missed) if self.missed else "none"


def site_standings(
    roster: Sequence[str], lines: Sequence[dict[str, Any]], *, standing: Mapping[str, Any], register: Mapping[str, str], over: bool = False
) -> list[SiteStanding]:
    """Return how each site of `roster` stands.

    Parameters
    ----------
    lines : sequence of dict
        ``rounds.jsonl``.
    standing : mapping
        ``run.json``.
    register : mapping
        State of each site in the server's register.
    over : bool
        The run is not on its way: nobody is waited for.

    Examples
    --------
    >>> taken, gone = {"num_cases": 5, "refused": None, "bytes": 8}, {"num_cases": 0, "refused": "E_NO_REPLY", "bytes": 0}
    >>> of_b = {1: (taken, []), 2: (gone, ["b"]), 3: (taken, [])}
    >>> lines = [{"round": number, "sites": {"a": taken, "b": record}, "missing": missing} for number, (record, missing) in of_b.items()]
    >>> [(one.name, one.words, one.missed_text) for one in site_standings(["a", "b"], lines, standing={}, register={})]
    [('a', 'takes part since round 1', 'none'), ('b', 'takes part again since round 3', '2')]
    """
    waiting = [] if over else list(standing.get("waiting_for", []))
    return [_standing(name, lines, waiting, register.get(name, "")) for name in sorted(roster)]


def _standing(name: str, lines: Sequence[dict[str, Any]], waiting: list[str], registered: str) -> SiteStanding:
    course, code, sent, patients = [], "", 0, 0
    for line in lines:
        record = line["sites"].get(name)
        code = str((record or {}).get("refused") or "")
        if record is not None:
            sent += int(record.get("bytes", 0))
            patients = max(patients, int(record.get("num_cases", 0)))
        if name in line["missing"]:
            course.append(MISSED)
        elif record is not None and not code:
            course.append(TOOK)
        else:
            course.append(APART if name in line.get("late", []) or any(course) else NOTHING)
    numbers = [int(line["round"]) for line in lines]
    missed = tuple(number for number, what in zip(numbers, course, strict=True) if what == MISSED)
    first = next((number for number, what in zip(numbers, course, strict=True) if what == TOOK), 0)
    since = next((number for number, what in zip(numbers, course, strict=True) if what == TOOK and number > max(missed, default=0)), 0)
    last = course[-1] if course else NOTHING
    late = bool(lines) and name in lines[-1].get("late", [])
    if registered == "revoked":
        state = "revoked"
    elif name + APPROVAL in waiting:
        state = "to approve"
    elif name in waiting and last != MISSED:
        state = "waiting"
    elif late:
        state = "late"
    elif last == MISSED:
        state = "refused" if code not in ("", "E_NO_REPLY") else "dropped"
    elif last == TOOK:
        state = "joined" if since == first else "returned"
    else:
        state = "apart" if first or last == APART else "expected"
    return SiteStanding(name, state, code, since, course.count(TOOK), missed, sent, patients, tuple(course))
