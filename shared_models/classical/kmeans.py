"""Clusters of a table with the classes of their patients, federated exactly: the sums of k-means or fuzzy c-means add over sites."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.clusters import cluster_sums, first_centres, next_centres, squared_distances
from shared_models.blocks.fuzzy import shares_of
from shared_models.blocks.moments import Scaler, total_of
from shared_models.blocks.spec import ModelSpec
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout


class Clusters:
    """Round 1 sums the scaler's moments, `steps` rounds move the centres, each later round sums the classes of every cluster.

    A site's gate lets these sums leave through the secure sum alone: a cluster may hold one patient.
    """

    def __init__(self, columns: int, classes: int, clusters: int, steps: int, fuzzifier: float | None) -> None:
        self.columns, self.classes, self.clusters, self.steps, self.fuzzifier = columns, classes, clusters, steps, fuzzifier
        self.scaler = Scaler(columns)

    def start(self, *, seed: int) -> State:
        """Return centres that belong to no patient; `ready` is 0 until the scaler is known, then one more than the steps taken."""
        centres = first_centres(self.clusters, self.columns, seed)
        return {**self.scaler.start(), "centres": centres, "shares": np.full((self.clusters, self.classes), 1 / self.classes)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int) -> State:
        """Return one site's sums over x (n, columns) and y (n,) class numbers: what the round needs, by the names that `combine` reads."""
        del seed
        if not state["ready"][0]:
            return self.scaler.sums(x)
        rows, n = self.scaler.scaled(state, x), {"n": np.array([float(len(x))])}
        if state["ready"][0] <= self.steps:
            return {**n, **cluster_sums(rows, state["centres"], fuzzifier=self.fuzzifier)}
        return {**n, "classes": self._memberships(state, rows) @ np.eye(self.classes)[y]}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Set the scaler (first round), move the centres, or set the classes of the clusters."""
        del weights
        total = total_of(contributions)
        if not state["ready"][0]:
            return self.scaler.found(state, total)
        if state["ready"][0] <= self.steps:
            return {**state, "centres": next_centres(state["centres"], total), "ready": state["ready"] + 1}
        counted = total["classes"] + 1 / self.classes  # one patient of no class in each cluster: none is certain of anything
        return {**state, "shares": counted / counted.sum(1, keepdims=True)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, sums that are not finite, and counts or squares that are negative."""
        same_layout(contribution, self.contribution(state, np.zeros((0, self.columns)), np.zeros(0, int), seed=0))
        if not is_finite(contribution) or any((contribution[key] < 0).any() for key in contribution.keys() - {"sum", "totals"}):
            raise BadState("sums must be finite and counts positive")

    def predict(self, state: State, x: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, classes): those of a row's clusters, by its memberships."""
        return self._memberships(state, self.scaler.scaled(state, x)).T @ state["shares"]

    def _memberships(self, state: State, rows: np.ndarray) -> np.ndarray:
        squared = squared_distances(rows, state["centres"])
        if self.fuzzifier is not None:
            return shares_of(squared, self.fuzzifier)
        return (np.arange(self.clusters)[:, None] == squared.argmin(0)).astype(np.float64)


def kmeans(
    inputs: int,
    outputs: int,
    *,
    clusters: Annotated[int, Field(ge=2, le=256)] = 8,
    steps: Annotated[int, Field(ge=1, le=1000)] = 20,
    fuzzifier: Annotated[float, Field(gt=1, le=5)] | None = None,
) -> Clusters:
    """Build a classifier by clusters over `inputs` standardised columns and `outputs` classes; it needs ``2 + steps`` rounds and the secure sum.

    Parameters
    ----------
    clusters : int
        How many.
    steps : int
        Rounds that move the centres.
    fuzzifier : float
        Exponent m of fuzzy c-means; without it the clusters are those of k-means.

    Examples
    --------
    >>> model = kmeans(1, 2, clusters=2, steps=5)
    >>> x, y = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
    >>> state = model.start(seed=0)
    >>> for _ in range(2 + 5):
    ...     state = model.combine(state, [model.contribution(state, x, y, seed=0)], [4])
    >>> model.predict(state, np.array([[2.0], [9.0]])).round(3).tolist()
    [[0.833, 0.167], [0.167, 0.833]]
    """
    return Clusters(inputs, outputs, clusters, steps, fuzzifier)


SPEC = ModelSpec(
    build=kmeans,
    takes="table",
    fit="sums",
    counts={"n": "all"},
    summed_only=True,
    source="Lloyd, IEEE Trans Inf Theory 1982; Bezdek 1981; summed over sites: design of the federation modes (F-stat)",
)
