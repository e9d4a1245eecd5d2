"""A model beside readers of the same cases: each one's accuracy, and on how many cases the two differ in being right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import wilson
from shared_models.metrics.paired import holm


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the exact two-sided p of two callers being right equally often, from the cases in which one of them alone is right; 1 without any.

    Source: McNemar, Psychometrika 1947;12:153, by the binomial distribution of the cases that differ.

    Examples
    --------
    >>> mcnemar(1, 8), mcnemar(3, 3)
    (0.0390625, 1.0)
    """
    n = first_alone + second_alone
    tail = sum(math.comb(n, k) for k in range(min(first_alone, second_alone) + 1))
    return min(1.0, 2 * tail / 2**n)


def beside_readers(truth: Sequence[str], model: Sequence[str], readers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return a row for the model and one for each reader.

    Parameters
    ----------
    truth, model : sequence of str, length n
        The class of each case, and what the model calls it: one entry a patient, not a slice.
    readers : mapping of str to sequence of str
        What each reader calls it; empty where a case was not read. Such a case counts for this reader's comparison on neither side.

    Returns
    -------
    list of dict
        ``caller``, ``cases``, ``right``, ``accuracy``, ``low``, ``high`` (Wilson). Of a reader also ``model_alone`` and ``reader_alone``, the
        read cases in which one of the two alone is right, ``p`` (exact McNemar) and ``p_holm``, over all readers.

    Raises
    ------
    BadInput
        Sequences of other lengths than the truth.

    Examples
    --------
    >>> rows = beside_readers(["UIP", "OP", "OP"], ["UIP", "OP", "UIP"], {"A": ["UIP", "UIP", ""]})
    >>> [(row["caller"], row["right"], row["cases"]) for row in rows], rows[1]["model_alone"], rows[1]["p"]
    ([('model', 2, 3), ('A', 1, 2)], 1, 1.0)
    """
    sizes = {name: len(called) for name, called in {"truth": truth, "model": model, **readers}.items()}
    if len(set(sizes.values())) > 1:
        raise BadInput("a reader study has one call a case of everybody", value=sizes)
    known = np.asarray(truth)
    sure = np.asarray(model) == known
    rows = [_row("model", sure, np.ones(known.size, bool))]
    for name, called in readers.items():
        read, right = np.asarray(called) != "", np.asarray(called) == known
        apart = int((read & sure & ~right).sum()), int((read & right & ~sure).sum())
        rows.append({**_row(name, right, read), "model_alone": apart[0], "reader_alone": apart[1], "p": mcnemar(*apart)})
    for row, p in zip(rows[1:], holm([row["p"] for row in rows[1:]]), strict=True):
        row["p_holm"] = p
    return rows


def _row(name: str, right: np.ndarray, read: np.ndarray) -> dict[str, Any]:
    hits, cases = int((right & read).sum()), int(read.sum())
    low, high = wilson(hits, cases) or (None, None)
    return {"caller": name, "cases": cases, "right": hits, "accuracy": hits / cases if cases else None, "low": low, "high": high}
