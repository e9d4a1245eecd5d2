"""Principal components of the federation's table."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.blocks.semidefinite import nearest_semidefinite
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.statistics.moments import ROUNDS, check_moments, moments, parts, summed, unknown
from shared_models.statistics.spec import StatisticSpec


class Components:
    """Mean, leading eigenvectors and eigenvalues of the covariance of all sites' training records."""

    def __init__(self, columns: tuple[str, ...], components: int, whiten: bool) -> None:
        if not components <= len(columns):
            raise BadChoice("pca has at most as many components as there are columns", value=components, remedy=f"the table has {len(columns)}")
        self.columns, self.components, self.whiten = columns, components, whiten

    def columns_after(self) -> tuple[str, ...]:
        """Return the names of the components."""
        return tuple(f"component {number}" for number in range(1, self.components + 1))

    def start(self, *, seed: int) -> State:
        """Return mean 0 and the first columns as axes."""
        del seed
        c, k = len(self.columns), self.components
        return unknown(c) | {"axes": np.eye(k, c), "variance": np.ones(k)}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return count and sums, and products once there is a mean to take them about."""
        del y, seed
        return summed(state, x, weights, products=True)

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the mean, and in the second round the covariance's eigenvectors, largest variance first, a first large entry positive."""
        del weights
        mean, covariance = moments(state["mean"], contributions)
        if not state["ready"][0]:
            return {**state, "mean": mean, "ready": np.ones(1)}
        values, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, : self.components].T
        large = (np.abs(axes) >= 0.5 * np.abs(axes).max(1, keepdims=True)).argmax(1)  # the very largest may be one of two equal ones
        axes = axes * np.where(axes[np.arange(len(axes)), large] < 0, -1.0, 1.0)[:, None]
        return {**state, "mean": mean, "axes": axes, "variance": np.maximum(values[::-1][: self.components], 0.0)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, or that no records can have."""
        check_moments(contribution, summed(state, np.zeros((0, len(self.columns))), None, products=True))

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the arrays that this round reads."""
        return parts(state)

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the length of ``(1, d)``, later of ``(1, d, d d^T)``, with ``d = x - mean`` of each row, shape (n,)."""
        del y
        squares = ((np.asarray(x, np.float64) - state["mean"]) ** 2).sum(1)
        return np.sqrt(1 + squares + squares**2 * state["ready"][0])

    def mend(self, sums: State) -> State:
        """Return noisy sums whose count is at least 1 and whose products are symmetric and positive semidefinite."""
        return {**sums, "n": np.maximum(sums["n"], 1.0), "second": nearest_semidefinite(sums["second"])}

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing: every site applies the same numbers."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return the rows along the axes; with `whiten` in standard deviations of each."""
        del own
        scores = (np.asarray(x, np.float64) - state["mean"]) @ state["axes"].T
        if not self.whiten:
            return scores
        varies = state["variance"] > 1e-12 * max(float(state["variance"].max(initial=0)), 1e-300)
        return scores / np.where(varies, np.sqrt(np.where(varies, state["variance"], 1.0)), 1.0)


def pca(columns: tuple[str, ...], *, components: Annotated[int, Field(ge=1, le=1000)], whiten: bool = False) -> Components:
    """Replace the columns by their principal components over all sites' training records; two rounds.

    Columns of different units want the statistic ``scaler`` before it.

    Parameters
    ----------
    columns : tuple of str
        Of the table.
    components : int
        How many are kept, at most as many as there are columns.
    whiten : bool
        Divide each component by its standard deviation.

    Raises
    ------
    BadChoice
        More components than columns.

    Examples
    --------
    >>> fit, x = pca(("a", "b"), components=1), np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> state = fit.start(seed=0)
    >>> for _ in range(2):
    ...     state = fit.combine(state, [fit.contribution(state, x, np.zeros(3, int), seed=0)], [])
    >>> np.round(fit.seen(state, {}, x).ravel(), 3).tolist()
    [-1.414, 0.0, 1.414]
    """
    return Components(columns, components, whiten)


SPEC = StatisticSpec(
    pca, takes="table", rounds=ROUNDS, source="Jolliffe, Principal component analysis, 2002, chapter 2; the covariance is summed over sites"
)
