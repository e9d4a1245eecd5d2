"""Splits of a cohort by patient: a keyed hash decides, so that a patient stays on one side however often and however spelled."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from client.cases.cohort import Cohort
from shared_models.core.errors import BadInput


def place(pseudonym: str, *, salt: str) -> float:
    """Return the patient's place in [0, 1): the first 52 bits of HMAC-SHA256 of the pseudonym under `salt`.

    It depends on nothing else: patients who join later do not move those who are there.

    Examples
    --------
    >>> 0 <= place("a1", salt="demo") < 1
    True
    """
    digest = hmac.new(salt.encode(), pseudonym.encode(), hashlib.sha256).digest()
    return (int.from_bytes(digest[:8], "big") >> 12) / 2**52


def split(cohort: Cohort, *, validation: float, salt: str) -> tuple[Cohort, Cohort]:
    """Return (training, validation): of the patients in each class, the share `validation` with the lowest places, rounded, at least one if two.

    Parameters
    ----------
    cohort : Cohort
        Patients, labelled or not; those without a label are a class of their own.
    validation : float
        Share of patients in [0, 1).
    salt : str
        Names the split; another salt gives another one.

    Raises
    ------
    BadInput
        The share is outside [0, 1).
    """
    if not 0 <= validation < 1:
        raise BadInput("the validation share must lie in [0, 1)", value=validation)
    held: set[str] = set()
    for names in _by_class(cohort, salt):
        count = round(validation * len(names))
        if validation > 0 and len(names) > 1:
            count = min(max(count, 1), len(names) - 1)
        held.update(names[:count])
    return cohort.only(c.pseudonym for c in cohort.cases if c.pseudonym not in held), cohort.only(held)


def folds(cohort: Cohort, *, count: int, salt: str) -> list[Cohort]:
    """Return `count` disjoint cohorts that together are `cohort`, each class spread evenly over them.

    Raises
    ------
    BadInput
        Fewer than two folds, or more folds than patients.
    """
    fold_of = dealt({case.pseudonym: case.label or "" for case in cohort.cases}, count=count, salt=salt)
    return [cohort.only(name for name, own in fold_of.items() if own == number) for number in range(1, count + 1)]


def dealt(classes: Mapping[str, str], *, count: int, salt: str) -> dict[str, int]:
    """Return the fold of each patient, 1 to `count`: class by class they are dealt round in the order of their places.

    No two folds differ by more than one patient, nor by more than one of a class. What a fold holds hangs on who is there, as a split by class does:
    a patient who joins may move others.

    Parameters
    ----------
    classes : mapping
        Pseudonym to class; one entry a patient, however many visits there are.
    count : int
        Folds.
    salt : str
        Names the deal; another salt gives another one.

    Raises
    ------
    BadInput
        Fewer than two folds, or more folds than patients.

    Examples
    --------
    >>> sorted(dealt({"a1": "event", "b2": "event", "c3": "censored", "d4": "censored"}, count=2, salt="demo").values())
    [1, 1, 2, 2]
    """
    if not 2 <= count <= len(classes):
        raise BadInput(f"folds must number 2 to {len(classes)} (the patients)", value=count, remedy="set evaluation.folds")
    ordered = sorted(classes, key=lambda name: (classes[name], place(name, salt=salt), name))
    return {name: 1 + turn % count for turn, name in enumerate(ordered)}


def drawn_fold(pseudonym: str, *, count: int, salt: str) -> int:
    """Return the fold of a patient, 1 to `count`, that hangs on nobody else: folds are then of equal size on average alone.

    Examples
    --------
    >>> drawn_fold("a1", count=5, salt="demo") in range(1, 6)
    True
    """
    return 1 + int(place(pseudonym, salt=salt) * count)


def _by_class(cohort: Cohort, salt: str) -> Iterable[list[str]]:
    labels = sorted({case.label or "" for case in cohort.cases})
    for label in labels:
        names = [case.pseudonym for case in cohort.cases if (case.label or "") == label]
        yield sorted(names, key=lambda name: (place(name, salt=salt), name))
