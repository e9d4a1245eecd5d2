"""Linear discriminant analysis on a table, federated exactly: class sums and one matrix of products give the pooled fit."""

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


class Discriminant:
    """Normal classes with one covariance. Round 1 sums the scaler's moments; each later round sums counts and columns of each class, and the
    products of all columns: after round 2 the model stands.
    """

    def __init__(self, columns: int, classes: int, shrinkage: float, scaler: Scaler) -> None:
        self.columns, self.classes, self.shrinkage, self.scaler = columns, classes, shrinkage, scaler

    def start(self, *, seed: int) -> State:
        """Return equal classes at one place; `means` and `covariance` count in standard deviations of the columns."""
        del seed
        return {
            **self.scaler.start(),
            "means": np.zeros((self.classes, self.columns)),
            "covariance": np.zeros((self.columns, self.columns)),
            "priors": np.full(self.classes, 1 / self.classes),
        }

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers, each row weighed by `weights` (n,), by default 1."""
        del seed
        counts = np.bincount(y, weights, minlength=self.classes).astype(np.float64)
        zero = {"totals": np.zeros((self.classes, self.columns)), "products": np.zeros((self.columns, self.columns))}
        sums = {**self.scaler.sums(x, weights), "counts": counts, **zero}
        if not state["ready"][0]:
            return sums
        scaled = self.scaler.scaled(state, x)
        rows = scaled if weights is None else scaled * weights[:, None]
        return {**sums, "totals": np.eye(self.classes)[:, y] @ rows, "products": rows.T @ scaled}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round) or the classes."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        counts, n = total["counts"], float(total["counts"].sum())
        if not n > 0:  # under differential privacy nobody pays for the same sums twice
            return state
        means = total["totals"] / np.maximum(counts, 1e-12)[:, None] * (counts > 0)[:, None]
        within = total["products"] - (means * counts[:, None]).T @ means
        covariance = nearest_semidefinite(within / max(n - np.count_nonzero(counts), 1.0))
        even = np.trace(covariance) / self.columns * np.eye(self.columns)
        return {**state, "means": means, "covariance": (1 - self.shrinkage) * covariance + self.shrinkage * even, "priors": counts / n}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the sums for the scaler in round 1, those of the classes in round 2, nothing afterwards."""
        if not state["ready"][0]:
            return ("n", "sum", "squares")
        return () if state["covariance"].any() else ("counts", "totals", "products")

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return ``|(e_y, e_y z^T, z z^T)| = sqrt(1 + |z|^2 + |z|^4)`` of each row z, shape (n,).

        Raises
        ------
        BadState
            The columns have no public scale.
        """
        self.scaler.need_public(state)
        squares = (self.scaler.scaled(state, x) ** 2).sum(1)
        return np.sqrt(1 + squares + squares**2)

    def mend(self, sums: State) -> State:
        """Return noisy sums with symmetric, positive semidefinite products; counts and squares are not negative."""
        known = {key: np.maximum(sums[key], 0.0) for key in ("n", "squares", "counts")}
        return {**sums, **known, "products": nearest_semidefinite(sums["products"])}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts, and products that are none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in ("n", "squares", "counts")):
            raise BadState("sums must be finite and counts positive")
        check_semidefinite(contribution["products"], what="a matrix of products")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return the posterior probability of each class, shape (n, classes); a class that nobody has has none."""
        # A direction in which no patient differs within a class has no scale: the pseudo-inverse leaves it out.
        directions = np.linalg.pinv(state["covariance"], rcond=1e-10, hermitian=True) @ state["means"].T
        offsets = -0.5 * (state["means"].T * directions).sum(0) + np.log(np.maximum(state["priors"], 1e-300))
        return softmax(self.scaler.scaled(state, x) @ directions + offsets)


def lda(
    inputs: int,
    outputs: int,
    *,
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.0,
    centre: tuple[float, ...] = (),
    spread: tuple[Annotated[float, Field(gt=0)], ...] = (),
) -> Discriminant:
    """Build a linear discriminant analysis over `inputs` columns and `outputs` classes.

    Parameters
    ----------
    shrinkage : float
        Share of the covariance that is replaced by its mean variance in all directions: for more columns than patients.
    centre, spread : tuple of float
        Public mean and standard deviation of each column; differential privacy needs them.

    Examples
    --------
    >>> model = lda(1, 2)
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> state = model.start(seed=0)
    >>> for _ in range(2):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [4])
    >>> model.predict(state, np.array([[0.0], [1.5]])).round(3).tolist()
    [[0.998, 0.002], [0.5, 0.5]]
    """
    return Discriminant(inputs, outputs, shrinkage, Scaler(inputs, tuple(centre), tuple(spread)))


SPEC = ModelSpec(
    build=lda,
    takes="table",
    fit="sums",
    counts={"n": "all", "counts": "class"},
    source="Fisher, Ann Eugenics 1936; Hastie, Tibshirani & Friedman, Elements of statistical learning, 4.3; summed over sites (F-stat)",
)
