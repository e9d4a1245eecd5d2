"""Support vector machine with a Gaussian kernel on a table, federated exactly: shared-seed Fourier features with a hinge head."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.fourier import fourier_features
from shared_models.blocks.moments import Scaler, check_semidefinite, total_of
from shared_models.blocks.semidefinite import nearest_semidefinite
from shared_models.blocks.softmax import softmax
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


class SupportVectors:
    """One class against the rest by the squared hinge, ``|w|^2 / 2 + cost sum max(0, 1 - s w d)^2`` over features d and signs s.

    The squared hinge and not the plain one: it has a slope everywhere, so that sums of its first and second derivatives over the rows within
    the margin are all that Newton's method needs, and some eight rounds reach the one optimum to the last digits (Keerthi & DeCoste, J Mach
    Learn Res 2005). The dual of the plain hinge would need rows. No row travels, be it a support vector or not.

    Round 1 sums the scaler's moments. Each later round sums, over rows within the margin of each class, the Gram matrix of the features, the
    signed features and the loss; the server solves, or goes half the way back where the last step has made the objective larger.
    """

    def __init__(self, columns: int, classes: int, features: int, gamma: float, cost: float, sharpness: float, seed: int, scaler: Scaler) -> None:
        self.columns, self.classes, self.features, self.gamma, self.cost = columns, classes, features, gamma, cost
        self.sharpness, self.seed, self.scaler = sharpness, seed, scaler

    def start(self, *, seed: int) -> State:
        """Return zero coefficients; `best` are those of the smallest objective so far, `objective` is 0 until one is known."""
        del seed
        zero = np.zeros((self.classes, self.features + 1))
        return {**self.scaler.start(), "coefficients": zero, "best": zero.copy(), "objective": np.zeros(self.classes)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers, each row weighed by `weights` (n,), by default 1."""
        del seed
        width = self.features + 1
        zero = {"gram": np.zeros((self.classes, width, width)), "target": np.zeros((self.classes, width)), "loss": np.zeros(self.classes)}
        sums = {**self.scaler.sums(x, weights), **zero}
        if not state["ready"][0] or not len(x):
            return sums
        each = np.ones(len(x)) if weights is None else weights
        design, sign, gap = self._margins(state, x, y)
        for number in range(self.classes):
            within = gap[:, number] > 0
            rows = design[within] * each[within, None]
            sums["gram"][number] = rows.T @ design[within]
            sums["target"][number] = sign[within, number] @ rows
            sums["loss"][number] = float(each[within] @ gap[within, number] ** 2)
        return sums

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round) or take one safeguarded Newton step for each class."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        here, best, objective = state["coefficients"], state["best"].copy(), state["objective"].copy()
        reached = (here**2).sum(1) / 2 + self.cost * total["loss"]
        after = np.empty_like(here)
        for number in range(self.classes):
            if objective[number] > 0 and reached[number] > objective[number] * (1 + 1e-10):
                after[number] = (here[number] + best[number]) / 2
                continue
            best[number], objective[number] = here[number], reached[number]
            bend = np.eye(self.features + 1) + 2 * self.cost * total["gram"][number]
            after[number] = np.linalg.solve(bend, 2 * self.cost * total["target"][number])
        return {**state, "coefficients": after, "best": best, "objective": objective}

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the sums for the scaler in round 1, Gram matrices, targets and losses afterwards."""
        return ("gram", "target", "loss") if state["ready"][0] else ("n", "sum", "squares")

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return for each row ``sqrt(sum |d|^4 + |d|^2 + gap^4)`` over the classes within whose margin it lies, shape (n,).

        Raises
        ------
        BadState
            The columns have no public scale.
        """
        self.scaler.need_public(state)
        if not len(x):
            return np.zeros(0)
        design, _, gap = self._margins(state, x, y)
        squares = (design**2).sum(1)[:, None]
        return np.sqrt(((gap > 0) * (squares**2 + squares) + np.maximum(gap, 0) ** 4).sum(1))

    def mend(self, sums: State) -> State:
        """Return noisy sums with symmetric, positive semidefinite Gram matrices; counts, squares and losses are not negative."""
        known = {key: np.maximum(sums[key], 0.0) for key in ("n", "squares", "loss")}
        return {**sums, **known, "gram": np.stack([nearest_semidefinite(gram) for gram in sums["gram"]])}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts or losses, and Gram matrices that are none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in ("n", "squares", "loss")):
            raise BadState("sums must be finite and counts positive")
        for gram in contribution["gram"]:
            check_semidefinite(gram, what="a Gram matrix")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, classes): the softmax of the signed distances times `sharpness`."""
        return softmax(self.sharpness * (self._design(state, x) @ state["coefficients"].T))

    def _margins(self, state: State, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        design = self._design(state, x)
        sign = 2.0 * np.eye(self.classes)[y] - 1
        return design, sign, 1 - sign * (design @ state["coefficients"].T)

    def _design(self, state: State, x: np.ndarray) -> np.ndarray:
        return fourier_features(self.scaler.scaled(state, x), features=self.features, gamma=self.gamma, seed=self.seed)


def svm(
    inputs: int,
    outputs: int,
    *,
    features: Annotated[int, Field(ge=16, le=2048)] = 256,
    gamma: Annotated[float, Field(gt=0, le=100)] | None = None,
    cost: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    sharpness: Annotated[float, Field(gt=0, le=100)] = 2.0,
    seed: Annotated[int, Field(ge=0)] = 0,
    centre: tuple[float, ...] = (),
    spread: tuple[Annotated[float, Field(gt=0)], ...] = (),
) -> SupportVectors:
    """Build a support vector machine over `inputs` standardised columns and `outputs` classes.

    Parameters
    ----------
    features : int
        Random Fourier features; the bytes of a round grow with their square and the number of classes.
    gamma : float
        Width of the kernel ``exp(-gamma |a - b|^2)``; by default one half over the number of columns.
    cost : float
        Weight of the squared hinge (scikit-learn's C); the constant feature is penalised like the others.
    sharpness : float
        Factor from signed distances to logits.
    seed : int
        Of the random features: the same at every site.
    centre, spread : tuple of float
        Public mean and standard deviation of each column; differential privacy needs them.

    Examples
    --------
    >>> model = svm(1, 2, features=64)
    >>> x, y = np.linspace(-2, 2, 20)[:, None], (abs(np.linspace(-2, 2, 20)) < 1).astype(int)
    >>> state = model.start(seed=0)
    >>> for _ in range(8):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [20])
    >>> model.predict(state, np.array([[-2.0], [0.0], [2.0]])).argmax(1).tolist()
    [0, 1, 0]
    """
    scaler = Scaler(inputs, tuple(centre), tuple(spread))
    return SupportVectors(inputs, outputs, features, gamma or 0.5 / inputs, cost, sharpness, seed, scaler)


SPEC = ModelSpec(
    build=svm,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    source="Rahimi & Recht, NeurIPS 2007; squared hinge by Newton steps: Keerthi & DeCoste, JMLR 2005; summed over sites (F-stat)",
)
