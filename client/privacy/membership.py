"""Membership inference: can a reader of a released model tell who trained it from a patient of the same hospital who did not?

Each patient gets a score; members should not score higher. The loss attack takes how sure the model is of the true class (Yeom et al., IEEE
CSF 2018). The calibrated attack takes away how sure models are that never saw the patient (Watson et al., ICLR 2022; the offline attack of
Carlini et al., IEEE S&P 2022, with one variance for all): easy patients no longer pass for members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.privacy.canaries import auc
from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import clopper_pearson, newcombe_auroc

FALSE_ALARMS = 0.01
"""Share of patients who did not train that the attacker may take for members."""


@dataclass(frozen=True)
class Attack:
    """How well members were told from others.

    Parameters
    ----------
    auroc, low, high : float
        Area under the ROC curve with its 95 % interval (Newcombe 2006); .5 is guessing.
    p : float
        Chance of at least this area when membership is dealt out at random among the same scores.
    caught, caught_low, caught_high : float
        Share of the members above all but `FALSE_ALARMS` of the others, with its exact 95 % interval.
    members, others : int
        Patients.
    """

    auroc: float
    low: float
    high: float
    p: float
    caught: float
    caught_low: float
    caught_high: float
    members: int
    others: int

    def cells(self, name: str) -> dict[str, Any]:
        """Return the figures as the cells of a model card."""
        count = self.members + self.others
        return {
            f"{name} AUROC": {"value": self.auroc, "low": self.low, "high": self.high, "n": count},
            f"{name} chance of it by luck": self.p,
            f"{name} members caught at 1 % false alarms": {
                "value": self.caught,
                "low": self.caught_low,
                "high": self.caught_high,
                "n": self.members,
            },
        }


def attack(scores: np.ndarray, member: np.ndarray, *, permutations: int = 2000, seed: int = 0) -> Attack:
    """Return how well `scores` tell members.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of each patient: higher speaks for a member.
    member : ndarray of bool, shape (n,)
        Who trained.
    permutations : int
        Random deals of membership that calibrate the chance.
    seed : int
        Of the deals.

    Raises
    ------
    BadInput
        Nobody on one side, or a score that is not finite.

    Examples
    --------
    >>> found = attack(np.arange(40.0), np.arange(40) >= 20)
    >>> found.auroc, found.caught, found.p < 0.001
    (1.0, 1.0, True)
    """
    scores, member = np.asarray(scores, float), np.asarray(member, bool)
    if not np.isfinite(scores).all() or not 0 < member.sum() < len(member):
        raise BadInput("an attack needs finite scores of members and of others", value=(int(member.sum()), len(member)))
    inside, outside = scores[member], scores[~member]
    value = auc(inside, outside)
    low, high = newcombe_auroc(value, len(inside), len(outside)) or (0.0, 1.0)
    rng = np.random.default_rng(seed)
    dealt = [auc(mixed[: len(inside)], mixed[len(inside) :]) for mixed in (rng.permutation(scores) for _ in range(permutations))]
    p = (1 + sum(one >= value - 1e-12 for one in dealt)) / (1 + permutations)
    bar = np.sort(outside)[::-1][int(FALSE_ALARMS * len(outside))]
    hits = int((inside > bar).sum())
    caught = clopper_pearson(hits, len(inside)) or (0.0, 1.0)
    return Attack(value, low, high, p, hits / len(inside), *caught, len(inside), len(outside))


def sureness(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``log p - log(1 - p)`` of the true class of each record: the scale on which sureness is about normal (Carlini et al., 2022).

    Examples
    --------
    >>> sureness(np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([0, 1])).round(2).tolist()
    [0.0, 2.2]
    """
    right = np.clip(probabilities[np.arange(len(labels)), labels], 1e-9, 1 - 1e-9)
    return np.log(right) - np.log1p(-right)


def by_patient(values: np.ndarray, names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return patients in the order of their first record, and the mean over each one's records.

    Examples
    --------
    >>> by_patient(np.array([1.0, 5.0, 3.0]), ("b", "a", "b"))
    (('b', 'a'), array([2., 5.]))
    """
    patients = tuple(dict.fromkeys(names))
    place = {name: number for number, name in enumerate(patients)}
    number = np.array([place[name] for name in names], int)
    return patients, np.bincount(number, values, len(patients)) / np.maximum(np.bincount(number, minlength=len(patients)), 1)


def within_classes(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return scores less the mean of all patients of the same class.

    Else an attack on a model that knows no patient would still succeed where the classes fell unevenly on members and others.

    Examples
    --------
    >>> within_classes(np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])).tolist()
    [-1.0, 1.0, 0.0]
    """
    number = np.unique(classes, return_inverse=True)[1]
    return scores - (np.bincount(number, scores) / np.bincount(number))[number]
