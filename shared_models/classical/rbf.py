"""Radial basis function network on a table, federated exactly: centres by summed k-means, output layer by summed ridge regression."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.clusters import cluster_sums, first_centres, next_centres, squared_distances
from shared_models.blocks.moments import Scaler, check_semidefinite, total_of
from shared_models.blocks.softmax import softmax
from shared_models.blocks.spec import ModelSpec
from shared_models.classical.ridge import solve_ridge
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


class RadialBasis:
    """``exp(-|x - c|^2 / 2 s^2)`` around each centre c, s^2 being `reach` times the mean squared distance to the nearest centre.

    Round 1 sums the scaler's moments, `steps` rounds move the centres, each later round sums the Gram matrix of the activations and their
    sums by class. A site's gate lets these sums leave through the secure sum alone: a cluster may hold one patient.
    """

    def __init__(self, columns: int, classes: int, centres: int, steps: int, reach: float, ridge: float, sharpness: float) -> None:
        self.columns, self.classes, self.centres, self.steps = columns, classes, centres, steps
        self.reach, self.ridge, self.sharpness, self.scaler = reach, ridge, sharpness, Scaler(columns)

    def start(self, *, seed: int) -> State:
        """Return centres that belong to no patient; `ready` is 0 until the scaler is known, then one more than the steps taken."""
        known = {"centres": first_centres(self.centres, self.columns, seed), "variance": np.ones(1)}
        return {**self.scaler.start(), **known, "coefficients": np.zeros((self.centres + 1, self.classes))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers: what the round needs, by the names that `combine` reads."""
        del seed
        if not state["ready"][0]:
            return self.scaler.sums(x)
        n = {"n": np.array([float(len(x))])}
        if state["ready"][0] <= self.steps:
            return {**n, **cluster_sums(self.scaler.scaled(state, x), state["centres"])}
        design = self._design(state, x)
        return {**n, "gram": design.T @ design, "target": design.T @ np.eye(self.classes)[y]}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round), move the centres, or solve for the output layer."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        if state["ready"][0] <= self.steps:
            variance = self.reach * float(total["spread"].sum()) / max(float(total["n"][0]), 1.0)
            moved = {"centres": next_centres(state["centres"], total), "variance": np.full(1, max(variance, 1e-6))}
            return {**state, **moved, "ready": state["ready"] + 1}
        return {**state, "coefficients": solve_ridge(total["gram"], total["target"], self.ridge)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, negative counts or squares, and a Gram matrix that is none."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in contribution.keys() - {"sum", "totals"}):
            raise BadState("sums must be finite; counts and activations positive")
        if "gram" in contribution:
            check_semidefinite(contribution["gram"], what="a Gram matrix")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, classes): the softmax of the output layer's values times `sharpness`."""
        return softmax(self.sharpness * (self._design(state, x) @ state["coefficients"]))

    def _design(self, state: State, x: np.ndarray) -> np.ndarray:
        squared = squared_distances(self.scaler.scaled(state, x), state["centres"])
        return np.column_stack([np.exp(-squared.T / (2 * state["variance"][0])), np.ones(len(x))])


def rbf(
    inputs: int,
    outputs: int,
    *,
    centres: Annotated[int, Field(ge=2, le=512)] = 16,
    steps: Annotated[int, Field(ge=1, le=1000)] = 10,
    reach: Annotated[float, Field(gt=0, le=100)] = 2.0,
    ridge: Annotated[float, Field(gt=0, le=1e6)] = 0.1,
    sharpness: Annotated[float, Field(gt=0, le=100)] = 4.0,
) -> RadialBasis:
    """Build a radial basis function network over `inputs` standardised columns; it needs ``2 + steps`` rounds and the secure sum.

    Parameters
    ----------
    centres : int
        Units of the hidden layer.
    steps : int
        Rounds that move the centres (k-means).
    reach : float
        Variance of a unit over the mean squared distance of patients to their nearest centre.
    ridge : float
        Penalty on the output layer.
    sharpness : float
        Factor from output values to logits.

    Examples
    --------
    >>> model = rbf(1, 2, centres=4, steps=5)
    >>> x, y = np.linspace(-2, 2, 40)[:, None], (abs(np.linspace(-2, 2, 40)) < 1).astype(int)
    >>> state = model.start(seed=0)
    >>> for _ in range(2 + 5):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [40])
    >>> model.predict(state, np.array([[-2.0], [0.0], [2.0]])).argmax(1).tolist()
    [0, 1, 0]
    """
    return RadialBasis(inputs, outputs, centres, steps, reach, ridge, sharpness)


SPEC = ModelSpec(
    build=rbf,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    summed_only=True,
    source="Moody & Darken, Neural Comput 1989; centres and output layer summed over sites: design of the federation modes (F-stat)",
)
