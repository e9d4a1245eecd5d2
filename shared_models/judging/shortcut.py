"""How much of the label the scanner alone gives away. A model may not be trusted across hospitals when nobody has asked this first.

Naive Bayes on what the header says (maker, kernel, thickness, tube voltage): counts are all it needs, so sites can sum them, and on purpose
it sees no pixel. Where it does much better than chance, a network can learn the scanner instead of the disease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics import score

FOLDS = 5
SUSPICIOUS = 0.6
"""From this AUROC on, with an interval that leaves .5 out, a label is said to follow the scanner."""


def acquisition_baseline(
    acquisition: Mapping[str, Sequence[str]],
    labels: Any,
    classes: Sequence[str],
    *,
    patients: Sequence[Any] | None = None,
    folds: int = FOLDS,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the cross-validated AUROC of acquisition alone, with its interval, and whether the label follows the scanner.

    Parameters
    ----------
    acquisition : mapping of str to sequence of str
        Each fact of the header, one word a case.
    labels : array-like of int, shape (n,)
        Index of the true class.
    classes : sequence of str
        Names of the k classes.
    patients : sequence, optional
        All cases of one patient lie in one fold.

    Raises
    ------
    BadInput
        No fact, or sequences of other lengths than the labels.

    Examples
    --------
    >>> y = np.tile([0, 1], 60)
    >>> acquisition_baseline({"kernel": np.where(y, "sharp", "soft").tolist()}, y, ["no", "yes"])["follows"]
    True
    >>> acquisition_baseline({"kernel": ["soft"] * 120}, y, ["no", "yes"])["auroc_macro"]["value"]
    0.5
    """
    y = np.asarray(labels, int)
    if not acquisition or any(len(words) != y.size for words in acquisition.values()):
        raise BadInput("acquisition has one word a case for each fact", value={name: len(words) for name, words in acquisition.items()})
    who = np.arange(y.size) if patients is None else np.unique(np.asarray(list(patients)), return_inverse=True)[1]
    fold = _folds(y, who, folds, seed)
    columns = [np.unique(np.asarray(list(words)), return_inverse=True)[1] for words in acquisition.values()]
    p = np.full((y.size, len(classes)), 1.0 / len(classes))
    for held in range(folds):
        inside = fold == held
        if inside.any() and not inside.all():
            p[inside] = _naive_bayes([column[~inside] for column in columns], y[~inside], [column[inside] for column in columns], len(classes))
    groups = None if patients is None else list(patients)
    cell = score(y, p, classes, metrics=["auroc_macro"], groups=groups, seed=seed, bootstrap=bootstrap)["auroc_macro"]
    follows = cell["value"] is not None and cell["value"] >= SUSPICIOUS and (cell["low"] or 0.0) > 0.5
    return {"auroc_macro": cell, "follows": bool(follows), "facts": sorted(acquisition)}


def _folds(y: NDArray[Any], who: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """Return each case's fold: patients in turn, class by class after the label of their first case."""
    first = dict(zip(who[::-1].tolist(), y[::-1].tolist(), strict=True))
    generator, of = np.random.default_rng(seed), {}
    for c in sorted(set(first.values())):
        members = generator.permutation(sorted(patient for patient, label in first.items() if label == c))
        of |= {int(patient): place % folds for place, patient in enumerate(members)}
    return np.array([of[patient] for patient in who.tolist()], np.int64)


def _naive_bayes(seen: list[NDArray[Any]], y: NDArray[Any], asked: list[NDArray[Any]], k: int) -> NDArray[np.float64]:
    """Return class probabilities (n, k) of the cases `asked` after the counts of `seen`, each with one case more (Laplace).

    All classes weigh the same: the share of a class among the other folds says, turned round, what is in this one.
    """
    log = np.zeros((len(asked[0]), k))
    for column, wanted in zip(seen, asked, strict=True):
        words = int(max(column.max(initial=0), wanted.max(initial=0))) + 1
        table = np.zeros((k, words))
        np.add.at(table, (y, column), 1.0)
        table = (table + 1.0) / (table.sum(1, keepdims=True) + words)
        log += np.log(table[:, wanted]).T
    log -= log.max(1, keepdims=True)
    p = np.exp(log)
    return p / p.sum(1, keepdims=True)
