"""Ridge regression on the class indicators of a table, federated exactly: the sum over sites is the pooled fit."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.moments import Scaler, check_semidefinite, total_of
from shared_models.blocks.semidefinite import nearest_semidefinite
from shared_models.blocks.softmax import softmax
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


def solve_ridge(gram: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Return the coefficients (features, classes) of a ridge regression whose last feature is 1 and free of the penalty.

    Parameters
    ----------
    gram : ndarray, shape (features, features)
        ``sum d d^T`` over patients.
    target : ndarray, shape (features, classes)
        ``sum d e_y^T``.
    penalty : float
        On the squares of all coefficients but the last.

    Examples
    --------
    >>> design = np.array([[-1.0, 1.0], [1.0, 1.0]])
    >>> solve_ridge(design.T @ design, design.T @ np.eye(2), 2.0).round(9).tolist()
    [[-0.25, 0.25], [0.5, 0.5]]
    """
    free = np.full(len(gram), penalty)
    free[-1] = 1e-12 * max(1.0, float(gram[-1, -1]))  # a total of nobody has no constant either
    return np.linalg.solve(gram + np.diag(free), target)


class Ridge:
    """Round 1 sums the scaler's moments, each later round the Gram matrix of the standardised columns and the sums of each class."""

    def __init__(self, columns: int, classes: int, ridge: float, sharpness: float, scaler: Scaler) -> None:
        self.columns, self.classes, self.ridge, self.sharpness, self.scaler = columns, classes, ridge, sharpness, scaler

    def start(self, *, seed: int) -> State:
        """Return zero coefficients and an empty scaler."""
        del seed
        return {**self.scaler.start(), "coefficients": np.zeros((self.columns + 1, self.classes))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers, each row weighed by `weights` (n,), by default 1."""
        del seed
        width = self.columns + 1
        counts = np.bincount(y, weights, minlength=self.classes).astype(np.float64)
        sums = {**self.scaler.sums(x, weights), "counts": counts, "gram": np.zeros((width, width)), "target": np.zeros((width, self.classes))}
        if not state["ready"][0]:
            return sums
        design = self._design(state, x)
        rows = design if weights is None else design * weights[:, None]
        return {**sums, "gram": rows.T @ design, "target": rows.T @ np.eye(self.classes)[y]}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round) or solve for the coefficients."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        if not total["gram"].any():  # under differential privacy nobody pays for the same sums twice
            return state
        return {**state, "coefficients": solve_ridge(total["gram"], total["target"], self.ridge)}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the sums for the scaler in round 1, the Gram matrix and its right-hand side in round 2, nothing afterwards."""
        if not state["ready"][0]:
            return ("n", "sum", "squares")
        return () if state["coefficients"].any() else ("gram", "target")

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return ``|(d d^T, d)| = |d| sqrt(|d|^2 + 1)`` of each row d, shape (n,).

        Raises
        ------
        BadState
            The columns have no public scale.
        """
        self.scaler.need_public(state)
        squares = (self._design(state, x) ** 2).sum(1)
        return np.sqrt(squares * (squares + 1))

    def mend(self, sums: State) -> State:
        """Return noisy sums with a symmetric, positive semidefinite Gram matrix; counts and squares are not negative."""
        known = {key: np.maximum(sums[key], 0.0) for key in ("n", "squares", "counts")}
        return {**sums, **known, "gram": nearest_semidefinite(sums["gram"])}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts, and a Gram matrix that is none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in ("n", "squares", "counts")):
            raise BadState("sums must be finite and counts positive")
        check_semidefinite(contribution["gram"], what="a Gram matrix")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, classes): the softmax of the regression's values times `sharpness`."""
        return softmax(self.sharpness * (self._design(state, x) @ state["coefficients"]))

    def _design(self, state: State, x: np.ndarray) -> np.ndarray:
        return np.column_stack([self.scaler.scaled(state, x), np.ones(len(x))])


def ridge(
    inputs: int,
    outputs: int,
    *,
    ridge: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    sharpness: Annotated[float, Field(gt=0, le=100)] = 4.0,
    centre: tuple[float, ...] = (),
    spread: tuple[Annotated[float, Field(gt=0)], ...] = (),
) -> Ridge:
    """Build a ridge classifier over `inputs` columns and `outputs` classes.

    Parameters
    ----------
    ridge : float
        Penalty on standardised columns (scikit-learn's alpha); the intercept is free.
    sharpness : float
        Factor from regression values to logits.
    centre, spread : tuple of float
        Public mean and standard deviation of each column; differential privacy needs them.

    Examples
    --------
    >>> model = ridge(1, 2)
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> state = model.start(seed=0)
    >>> for _ in range(2):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [4])
    >>> model.predict(state, np.array([[0.0], [3.0]])).argmax(1).tolist()
    [0, 1]
    """
    return Ridge(inputs, outputs, ridge, sharpness, Scaler(inputs, tuple(centre), tuple(spread)))


SPEC = ModelSpec(
    build=ridge,
    takes="table",
    fit="sums",
    counts={"n": "all", "counts": "class"},
    source="Hoerl & Kennard, Technometrics 1970; summed over sites: design of the federation modes (F-stat)",
)
