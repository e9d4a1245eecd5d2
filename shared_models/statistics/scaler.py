"""Columns in standard deviations from their mean over the federation."""

from __future__ import annotations

import numpy as np

from shared_models.core.arrays import State
from shared_models.statistics.moments import ROUNDS, check_moments, moments, parts, summed, unknown
from shared_models.statistics.spec import StatisticSpec


class Scaler:
    """Mean and standard deviation of each column over the training records of all sites; a column that never varies is only centred."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def columns_after(self) -> tuple[str, ...]:
        """Return the columns as they were."""
        return self.columns

    def start(self, *, seed: int) -> State:
        """Return mean 0 and scale 1."""
        del seed
        return unknown(len(self.columns)) | {"scale": np.ones(len(self.columns))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return count and sums, and squares once there is a mean to take them about."""
        del y, seed
        return summed(state, x, weights, products=False)

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the mean, and in the second round the standard deviation (with n below), of the records behind the sums."""
        del weights
        mean, variance = moments(state["mean"], contributions)
        if not state["ready"][0]:
            return {**state, "mean": mean, "ready": np.ones(1)}
        varies = variance > 1e-12 * np.maximum(mean**2, 1e-12)
        return {**state, "mean": mean, "scale": np.where(varies, np.sqrt(variance), 1.0)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, or that no records can have."""
        check_moments(contribution, summed(state, np.zeros((0, len(self.columns))), None, products=False))

    def parts(self, state: State) -> tuple[str, ...]:
        """Return the arrays that this round reads."""
        return parts(state)

    def lengths(self, state: State, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the length of ``(1, d)``, later of ``(1, d, d^2)``, with ``d = x - mean`` of each row, shape (n,)."""
        del y
        squares = (np.asarray(x, np.float64) - state["mean"]) ** 2
        return np.sqrt(1 + squares.sum(1) + (squares**2).sum(1) * state["ready"][0])

    def mend(self, sums: State) -> State:
        """Return noisy sums whose count is at least 1 and whose squares are not negative."""
        return {**sums, "n": np.maximum(sums["n"], 1.0), "second": np.maximum(sums["second"], 0.0)}

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing: every site applies the same numbers."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return ``(x - mean) / scale``."""
        del own
        return (np.asarray(x, np.float64) - state["mean"]) / state["scale"]


def scaler(columns: tuple[str, ...]) -> Scaler:
    """Standardise each column by its mean and standard deviation over all sites' training records.

    The fit equals that of the pooled records, whatever the sites' sizes and means; two rounds.

    Parameters
    ----------
    columns : tuple of str
        Of the table.

    Examples
    --------
    >>> fit, sites = scaler(("age",)), [np.array([[40.0], [60.0]]), np.array([[80.0]])]
    >>> state = fit.start(seed=0)
    >>> for _ in range(2):
    ...     state = fit.combine(state, [fit.contribution(state, x, np.zeros(len(x), int), seed=0) for x in sites], [])
    >>> state["mean"].tolist(), bool(np.isclose(state["scale"][0], np.concatenate(sites).std()))
    ([60.0], True)
    """
    return Scaler(columns)


SPEC = StatisticSpec(
    scaler,
    takes="table",
    rounds=ROUNDS,
    source="Chan, Golub & LeVeque, Algorithms for computing the sample variance, Am Stat 1983",
)
