"""Shapley values of the columns of a table: exact for few columns, else from random orders in pairs."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.explanations.subject import ExplanationSpec, Subject

MOST_EXACT = 10
"""Columns up to which all subsets are asked: 2^10 predictions."""


def shapley(
    subject: Subject, label: int, *, orders: Annotated[int, Field(ge=1, le=10_000)] = 128, seed: Annotated[int, Field(ge=0)] = 0
) -> np.ndarray:
    """Divide the score among the columns: what each adds when it becomes known, over all orders in which columns can become known.

    An absent column has the background's value. The parts add up to the score less that of the background (efficiency), exactly, however
    many orders are drawn; for a linear score they are ``w_j (x_j - b_j)``. Beyond ten columns `orders` random orders are taken, each
    with its reverse.

    Parameters
    ----------
    subject : Subject
        A row of a table, what predicts it, and the background row.
    label : int
        Class whose score is divided.
    orders : int
        Random orders for more than ten columns; half of them are the reverse of the other half.
    seed : int
        Seed of the orders.

    Returns
    -------
    ndarray of float64, shape (columns,)

    Raises
    ------
    BadInput
        No background row.

    Examples
    --------
    >>> w = np.array([1.0, -2.0])
    >>> def predict(x):
    ...     p = 1 / (1 + np.exp(-x @ w))
    ...     return np.column_stack([1 - p, p])
    >>> shapley(Subject(np.array([3.0, 1.0]), "table", predict, background=np.zeros(2)), 1).round(6).tolist()
    [1.5, -1.0]

    Source: Lundberg & Lee, NeurIPS 2017 (Shapley regression values, equation 4); orders in pairs: Mitchell et al., Sampling permutations for
    Shapley value estimation, JMLR 2022, section 4.1. The two-class score is half the log-odds, hence half of `w` above.
    """
    x, background = np.asarray(subject.record, float), np.asarray(subject.absent, float)
    columns = len(x)
    if columns <= MOST_EXACT:
        return _exact(subject, label, x, background)
    rng, parts = np.random.default_rng(seed), np.zeros(columns)
    pairs = max(1, orders // 2)
    for _ in range(pairs):
        order = rng.permutation(columns)
        for way in (order, order[::-1]):
            known = np.tril(np.ones((columns + 1, columns), bool), -1)  # row r: the first r of the order are known
            rows = np.empty((columns + 1, columns))
            rows[:, way] = np.where(known, x[way], background[way])
            parts[way] += np.diff(subject.scores(rows, label))
    return parts / (2 * pairs)


def _exact(subject: Subject, label: int, x: np.ndarray, background: np.ndarray) -> np.ndarray:
    columns = len(x)
    subsets = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1
    value = subject.scores(np.where(subsets == 1, x, background), label)
    sizes = subsets.sum(1)
    factor = np.array([math.factorial(s) * math.factorial(columns - s - 1) / math.factorial(columns) for s in range(columns)])
    parts = np.zeros(columns)
    for column in range(columns):
        without = np.flatnonzero(subsets[:, column] == 0)
        parts[column] = (factor[sizes[without]] * (value[without + (1 << column)] - value[without])).sum()
    return parts


SPEC = ExplanationSpec(
    shapley,
    frozenset({"table"}),
    lambda subject: subject.background is not None,
    source="Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017",
)
