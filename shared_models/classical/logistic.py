"""Multinomial logistic regression on a table, federated exactly: sites send sums, the result equals the pooled fit."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.semidefinite import nearest_semidefinite
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.state import is_finite, same_layout


class Logistic:
    """Newton's method on summed gradients and Hessians (iteratively reweighted least squares).

    Round 1 sums counts, values and squares, which gives the pooled mean and standard deviation of every column. Each later round sums
    the gradient and the Hessian of the log-likelihood at the current coefficients; the server adds the ridge term and takes one Newton
    step. After some eight rounds the coefficients equal those of one fit on all patients. No patient's row ever travels.
    """

    def __init__(self, columns: int, classes: int, ridge: float, centre: tuple[float, ...] = (), spread: tuple[float, ...] = ()) -> None:
        if (centre or spread) and not len(centre) == len(spread) == columns:
            raise BadChoice("centre and spread name one number a column", value=(len(centre), len(spread)), remedy=f"the table has {columns} columns")
        self.columns, self.classes, self.ridge, self.centre, self.spread = columns, classes, ridge, centre, spread

    def start(self, *, seed: int) -> State:
        """Return zero coefficients and an empty scaler; `ready` is 0 until the scaler is known, which a public one is from the start."""
        del seed
        return {
            "mean": np.array(self.centre) if self.centre else np.zeros(self.columns),
            "scale": np.array(self.spread) if self.spread else np.ones(self.columns),
            "coefficients": np.zeros((self.classes, self.columns + 1)),
            "ready": np.ones(1) if self.centre else np.zeros(1),
        }

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers, each row weighed by `weights` (n,), by default 1."""
        del seed
        size = self.classes * (self.columns + 1)
        rows, each = np.asarray(x, float), np.ones(len(x)) if weights is None else weights
        sums = {
            "n": np.array([float(each.sum())]),
            "sum": rows.sum(0) if weights is None else each @ rows,
            "squares": (rows**2).sum(0) if weights is None else each @ rows**2,
            "gradient": np.zeros(size),
            "hessian": np.zeros((size, size)),
        }
        if state["ready"][0] and len(x):
            design = self._design(state, x)
            p = _softmax(design @ state["coefficients"].T)
            truth = np.eye(self.classes)[y]
            sums["gradient"] = ((each[:, None] * (truth - p)).T @ design).ravel()
            weight = each[:, None, None] * (p[:, :, None] * np.eye(self.classes) - p[:, :, None] * p[:, None, :])  # (n, class, class)
            width = self.columns + 1
            for a in range(self.classes):
                for b in range(self.classes):
                    block = (design * weight[:, a, b, None]).T @ design
                    sums["hessian"][a * width : (a + 1) * width, b * width : (b + 1) * width] = block
        return sums

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round) or take one Newton step on the summed gradient and Hessian."""
        del weights
        total = {key: np.sum([c[key] for c in contributions], axis=0) for key in contributions[0]}
        n = max(float(total["n"][0]), 1.0)
        if not state["ready"][0]:
            mean = total["sum"] / n
            variance = np.maximum(total["squares"] / n - mean**2, 0)
            scale = np.where(variance > 1e-12 * np.maximum(mean**2, 1), np.sqrt(variance), 1.0)
            return {**state, "mean": mean, "scale": scale, "ready": np.ones(1)}
        penalty = np.full((self.classes, self.columns + 1), self.ridge)
        penalty[:, -1] = 1e-6 * max(self.ridge, 1e-3)  # the intercept is free but for the softmax's own redundancy
        gradient = total["gradient"] - (penalty * state["coefficients"]).ravel()
        step = np.linalg.solve(total["hessian"] + np.diag(penalty.ravel()), gradient)
        return {**state, "coefficients": state["coefficients"] + step.reshape(state["coefficients"].shape)}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the sums for the scaler in round 1, gradient and Hessian afterwards."""
        return ("gradient", "hessian") if state["ready"][0] else ("n", "sum", "squares")

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the length of each row's gradient ``(e_y - p) d`` and Hessian ``(diag p - p p^T) d d^T`` together, shape (n,).

        Raises
        ------
        BadState
            The columns have no public scale: sums of raw values would drown in their noise.
        """
        if not state["ready"][0]:
            raise BadState("private sums need a public scale of each column", remedy="give the model `centre` and `spread` from the literature")
        design = self._design(state, x)
        p = _softmax(design @ state["coefficients"].T)
        squares = (design**2).sum(1)
        miss = ((np.eye(self.classes)[y] - p) ** 2).sum(1)
        curve = ((p[:, :, None] * np.eye(self.classes) - p[:, :, None] * p[:, None, :]) ** 2).sum((1, 2))
        return np.sqrt(miss * squares + curve * squares**2)

    def mend(self, sums: State) -> State:
        """Return noisy sums with a symmetric, positive semidefinite Hessian; counts and squares are not negative."""
        return {
            **sums,
            "n": np.maximum(sums["n"], 0.0),
            "squares": np.maximum(sums["squares"], 0.0),
            "hessian": nearest_semidefinite(sums["hessian"]),
        }

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, a negative count, and a Hessian that no patients can have."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or contribution["n"][0] < 0 or (contribution["squares"] < 0).any():
            raise BadState("sums must be finite and counts positive")
        hessian = contribution["hessian"]
        size = max(1.0, float(np.abs(hessian).max(initial=0)))
        # Sums over patients are symmetric and positive semidefinite; anything else could make the Newton step impossible.
        if np.abs(hessian - hessian.T).max(initial=0) > 1e-9 * size or np.linalg.eigvalsh(hessian).min(initial=0) < -1e-8 * size * len(hessian):
            raise BadState("a Hessian must be symmetric and positive semidefinite")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, classes)."""
        return _softmax(self._design(state, x) @ state["coefficients"].T)

    def _design(self, state: State, x: np.ndarray) -> np.ndarray:
        return np.column_stack([(np.asarray(x, float) - state["mean"]) / state["scale"], np.ones(len(x))])


def _softmax(z: np.ndarray) -> np.ndarray:
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def logistic(
    inputs: int,
    outputs: int,
    *,
    ridge: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    centre: tuple[float, ...] = (),
    spread: tuple[Annotated[float, Field(gt=0)], ...] = (),
) -> Logistic:
    """Build a ridge-penalised multinomial logistic regression over `inputs` columns and `outputs` classes.

    Parameters
    ----------
    ridge : float
        Penalty ``ridge/2 * |coefficients|^2`` on standardised columns (scikit-learn's ``1/C``); the intercept is not penalised.
    centre, spread : tuple of float
        Mean and standard deviation of each column as the public knows them; without them the sites sum their own in round 1. Differential
        privacy needs them.

    Examples
    --------
    >>> import numpy as np
    >>> model = logistic(1, 2)
    >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> state = model.start(seed=0)
    >>> for _ in range(8):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [4])
    >>> model.predict(state, np.array([[0.0], [3.0]])).argmax(1).tolist()
    [0, 1]
    """
    return Logistic(inputs, outputs, ridge, tuple(centre), tuple(spread))


SPEC = ModelSpec(
    build=logistic,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    tells_classes=True,
    source="Hastie, Tibshirani & Friedman, Elements of statistical learning, 4.4; summed over sites: design of the federation modes (F-stat)",
)
