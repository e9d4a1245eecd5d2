"""Who stands behind what leaves: patients in all and by class. Too few in all refuse; too few of a class are left out, or refuse.

Patients are counted, not records: ten patches of one patient are one. A site with too few patients and a site that is left with too few
are refused alike, before training, so that neither code nor time tells which it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_models.core.errors import Refused


@dataclass(frozen=True)
class Support:
    """How many records and patients train, by class.

    Parameters
    ----------
    records, patients : ndarray of int, shape (classes,)
        Of each class.
    total : int
        Different patients in all.
    """

    records: np.ndarray
    patients: np.ndarray
    total: int


def support_of(labels: np.ndarray, names: Sequence[str], classes: int) -> Support:
    """Count records and patients.

    Examples
    --------
    >>> found = support_of(np.array([0, 0, 1]), ("a", "a", "b"), 2)
    >>> found.records.tolist(), found.patients.tolist(), found.total
    ([2, 1], [1, 1], 2)
    """
    patients = np.array([len({names[int(i)] for i in np.flatnonzero(labels == number)}) for number in range(classes)], int)
    return Support(np.bincount(labels, minlength=classes), patients, len(set(names)))


def supported(labels: np.ndarray, names: Sequence[str], classes: int, *, least: int, least_per_class: int, per_class: bool) -> np.ndarray:
    """Return the numbers of the records that may train.

    Parameters
    ----------
    labels, names : ndarray of int, sequence of str
        Class number and patient of each record.
    least, least_per_class : int
        Patients that must stand behind a model, and behind a class whose count leaves.
    per_class : bool
        Whether counts by class leave: classes with too few patients are then left out.

    Raises
    ------
    Refused
        E_FEW_CASES.
    """
    kept = np.arange(len(labels))
    if per_class:
        enough = support_of(labels, names, classes).patients >= least_per_class
        kept = np.flatnonzero(enough[labels]) if len(labels) else kept
    if len({names[int(i)] for i in kept}) < least:
        raise few()
    return kept


def check_groups(groups: np.ndarray, names: Sequence[str], least: int) -> None:
    """Refuse groups of which one holds records of too few patients: what a tree says of a leaf, it says of these.

    Parameters
    ----------
    groups : ndarray of int, shape (partitions, n)
        Where each record ends in each partition.
    names : sequence of str
        Patient of each record.
    least : int
        Patients of a group.

    Raises
    ------
    Refused
        E_FEW_CASES.

    Examples
    --------
    >>> check_groups(np.array([[0, 0, 1, 1]]), ("a", "b", "c", "d"), 2)
    >>> check_groups(np.array([[0, 0, 1, 1]]), ("a", "b", "c", "c"), 2)
    Traceback (most recent call last):
    ...
    shared_models.core.errors.Refused: a site with too few patients sends no model; take part with more patients
    """
    patients = np.unique(names, return_inverse=True)[1]
    for ends in groups:
        pairs = np.unique(np.stack([ends, patients]), axis=1)
        if (np.unique(pairs[0], return_counts=True)[1] < least).any():
            raise few()


def few() -> Refused:
    """Return the one refusal of every number that is too small; it says nothing of the number."""
    return Refused("a site with too few patients sends no model", remedy="take part with more patients", code="E_FEW_CASES")
