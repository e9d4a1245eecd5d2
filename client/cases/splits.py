"""Splits of a cohort by patient: a keyed hash decides, so that a patient stays on one side however often and however spelled."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

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
    if not 2 <= count <= len(cohort.cases):
        raise BadInput(f"folds must number 2 to {len(cohort.cases)} (the patients)", value=count)
    dealt: list[list[str]] = [[] for _ in range(count)]
    turn = 0
    for names in _by_class(cohort, salt):
        for name in names:
            dealt[turn % count].append(name)
            turn += 1
    return [cohort.only(names) for names in dealt]


def _by_class(cohort: Cohort, salt: str) -> Iterable[list[str]]:
    labels = sorted({case.label or "" for case in cohort.cases})
    for label in labels:
        names = [case.pseudonym for case in cohort.cases if (case.label or "") == label]
        yield sorted(names, key=lambda name: (place(name, salt=salt), name))
