"""A hospital's cohort: patients, their visits, what is known of each, and what is to be learnt."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_models.core.errors import BadCohort
from shared_models.core.files import canonical_json, read_json, sha256, write_json


@dataclass(frozen=True)
class Visit:
    """One day on which a patient was scanned.

    Parameters
    ----------
    pseudonym, series : str
        Keyed names of the visit and of the series taken from it.
    days : int
        Days since the patient's first visit.
    prepared : Path
        Its file in the cache, relative to the workspace.
    features : dict
        Feature name to number; NaN where undefined.
    clinical : dict
        Column of the clinical table to value; missing values are left out.
    """

    pseudonym: str
    days: int
    series: str
    prepared: Path
    features: dict[str, float] = field(default_factory=dict)
    clinical: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A patient: visits in order of time, and the diagnosis (None where it is not known).

    `diagnosis` keeps it beside a `label` that an experiment of survival has replaced by the event; it is written nowhere.
    """

    pseudonym: str
    visits: tuple[Visit, ...]
    label: str | None = None
    diagnosis: str | None = None


@dataclass(frozen=True)
class Cohort:
    """The patients of a site, sorted by pseudonym, and the classes that their labels come from.

    Raises
    ------
    BadCohort
        A patient twice, a patient without a visit, or a label that is none of the classes.

    Examples
    --------
    >>> case = Case("a1", (Visit("v1", 0, "s1", Path("cache/x.safetensors")),), label="UIP")
    >>> Cohort((case,), ("normal", "UIP")).count()
    {'normal': 0, 'UIP': 1}
    """

    cases: tuple[Case, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [case.pseudonym for case in self.cases]
        if len(set(names)) != len(names):
            raise BadCohort("a patient must be one case", value=f"{len(names) - len(set(names))} repeated pseudonyms")
        if any(not case.visits for case in self.cases):
            raise BadCohort("every case needs a visit")
        if self.classes and (bad := sorted({c.label for c in self.cases if c.label is not None} - set(self.classes))):
            raise BadCohort("every label must be one of the classes", value=bad, remedy=f"classes are {', '.join(self.classes)}")
        object.__setattr__(self, "cases", tuple(sorted(self.cases, key=lambda case: case.pseudonym)))

    @property
    def digest(self) -> str:
        """SHA-256 over patients, visits, series and labels: what a privacy ledger is bound to."""
        return sha256(
            canonical_json([[c.pseudonym, c.label, [[v.pseudonym, v.series, v.prepared.name] for v in c.visits]] for c in self.cases]).encode()
        )

    def count(self) -> dict[str, int]:
        """Return the number of patients of each class."""
        return {name: sum(case.label == name for case in self.cases) for name in self.classes}

    def labelled(self) -> Cohort:
        """Return the cohort of patients whose label is known."""
        return Cohort(tuple(case for case in self.cases if case.label is not None), self.classes)

    def only(self, pseudonyms: Iterable[str]) -> Cohort:
        """Return the cohort of the named patients."""
        wanted = set(pseudonyms)
        return Cohort(tuple(case for case in self.cases if case.pseudonym in wanted), self.classes)

    def save(self, path: Path) -> None:
        """Write the cohort as JSON (0600: it holds clinical values)."""
        write_json(path, {"version": 1, "classes": list(self.classes), "cases": [_case_out(case) for case in self.cases]}, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Cohort:
        """Read a cohort that `save` wrote.

        Raises
        ------
        BadCohort
            The file is missing or is no cohort.
        """
        try:
            data = read_json(path)
            if data["version"] != 1:
                raise BadCohort("cohort.json must have version 1", value=data["version"], remedy="prepare again")
            return cls(tuple(_case_in(case) for case in data["cases"]), tuple(data["classes"]))
        except FileNotFoundError:
            raise BadCohort("the workspace must hold cohort.json", remedy="run `fedild prepare` first") from None
        except (KeyError, TypeError, ValueError) as error:
            raise BadCohort("cohort.json must be a cohort", value=type(error).__name__, remedy="prepare again") from None


def _case_out(case: Case) -> dict[str, Any]:
    visits = [
        {
            "visit": v.pseudonym,
            "days": v.days,
            "series": v.series,
            "prepared": v.prepared.as_posix(),
            "features": {name: number_out(value) for name, value in v.features.items()},
            "clinical": v.clinical,
        }
        for v in case.visits
    ]
    return {"patient": case.pseudonym, "label": case.label, "visits": visits}


def _case_in(data: dict[str, Any]) -> Case:
    visits = tuple(
        Visit(
            v["visit"],
            int(v["days"]),
            v["series"],
            Path(v["prepared"]),
            {name: math.nan if value is None else float(value) for name, value in v["features"].items()},
            dict(v["clinical"]),
        )
        for v in data["visits"]
    )
    return Case(data["patient"], visits, data["label"])


def number_out(value: float) -> float | None:
    """Return `value` for JSON: None where it is undefined.

    Examples
    --------
    >>> number_out(1.5), number_out(math.nan)
    (1.5, None)
    """
    return value if math.isfinite(value) else None
