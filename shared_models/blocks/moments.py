"""Means and standard deviations of columns from sums that add over sites: the scaler that models of sums share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadState


@dataclass(frozen=True)
class Scaler:
    """Centre and spread of every column: public numbers, or found by the federation in its first round.

    Parameters
    ----------
    columns : int
        Columns of the table.
    centre, spread : tuple of float
        Public mean and standard deviation of each column; empty where the sites sum their own.

    Raises
    ------
    BadChoice
        Another number of centres or spreads than columns.

    Examples
    --------
    >>> scaler, x = Scaler(1), np.array([[1.0], [3.0]])
    >>> known = scaler.found(scaler.start(), scaler.sums(x))
    >>> scaler.scaled(known, x).ravel().tolist()
    [-1.0, 1.0]
    """

    columns: int
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.centre or self.spread) and not len(self.centre) == len(self.spread) == self.columns:
            raise BadChoice(
                "centre and spread name one number a column",
                value=(len(self.centre), len(self.spread)),
                remedy=f"the table has {self.columns} columns",
            )

    def start(self) -> State:
        """Return `mean` and `scale` before any data, and `ready`: 0 until they are known, which public ones are from the start."""
        return {
            "mean": np.array(self.centre) if self.centre else np.zeros(self.columns),
            "scale": np.array(self.spread) if self.spread else np.ones(self.columns),
            "ready": np.ones(1) if self.centre else np.zeros(1),
        }

    def sums(self, x: np.ndarray, weights: np.ndarray | None = None) -> State:
        """Return `n`, `sum` and `squares` of x (n, columns), each row weighed by `weights` (n,), by default 1."""
        rows = np.asarray(x, np.float64).reshape(len(x), self.columns)
        each = np.ones(len(rows)) if weights is None else weights
        return {"n": np.array([float(each.sum())]), "sum": each @ rows, "squares": each @ rows**2}

    def found(self, state: State, total: State) -> State:
        """Return `state` with the mean and the standard deviation that the total of the sums gives; a column that never changes has scale 1."""
        n = max(float(total["n"][0]), 1.0)
        mean = total["sum"] / n
        variance = np.maximum(total["squares"] / n - mean**2, 0)
        scale = np.where(variance > 1e-12 * np.maximum(mean**2, 1), np.sqrt(variance), 1.0)
        return {**state, "mean": mean, "scale": scale, "ready": np.ones(1)}

    def need_public(self, state: State) -> None:
        """Refuse columns without a public scale: sums of raw values would drown in their noise.

        Raises
        ------
        BadState
            The scale is not known yet.
        """
        if not state["ready"][0]:
            raise BadState("private sums need a public scale of each column", remedy="give the model `centre` and `spread` from the literature")

    def scaled(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return x (n, columns) in standard deviations from the mean, float64."""
        return (np.asarray(x, np.float64).reshape(len(x), self.columns) - state["mean"]) / state["scale"]


def total_of(contributions: list[State]) -> State:
    """Return the sum of contributions, key by key.

    Examples
    --------
    >>> total_of([{"n": np.array([1.0])}, {"n": np.array([2.0])}])
    {'n': array([3.])}
    """
    return {key: np.sum([contribution[key] for contribution in contributions], axis=0) for key in contributions[0]}


def check_semidefinite(matrix: np.ndarray, *, what: str) -> None:
    """Refuse a matrix that no sum over patients can be: sums of outer products are symmetric and positive semidefinite.

    Raises
    ------
    BadState
        Anything else could make the server's equations impossible.
    """
    size = max(1.0, float(np.abs(matrix).max(initial=0)))
    if np.abs(matrix - matrix.T).max(initial=0) > 1e-9 * size:
        raise BadState(f"{what} must be symmetric")
    try:
        np.linalg.cholesky(matrix + 1e-8 * size * max(1, len(matrix)) * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        raise BadState(f"{what} must be positive semidefinite") from None
