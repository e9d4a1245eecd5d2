"""Columns in standard deviations from their mean over the federation, found from the values that are known; a missing one stays missing."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout
from shared_models.statistics.moments import ROUNDS, unknown
from shared_models.statistics.spec import StatisticSpec


class MaskedScaler:
    """Each column has a count of its own; of a column that only few of a site's records know, the site sends nothing."""

    def __init__(self, columns: tuple[str, ...], least: int) -> None:
        self.columns, self.least = columns, least

    def columns_after(self) -> tuple[str, ...]:
        """Return the columns as they were."""
        return self.columns

    def start(self, *, seed: int) -> State:
        """Return mean 0 and scale 1."""
        del seed
        return unknown(len(self.columns)) | {"scale": np.ones(len(self.columns))}

    def contribution(self, state: State, x: np.ndarray, y: np.ndarray, *, seed: int, weights: np.ndarray | None = None) -> State:
        """Return the number of records, and by column how many know it, their sum about the mean so far, and once there is one their squares."""
        del y, seed
        rows = np.asarray(x, np.float64) - state["mean"]
        each = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
        known = ~np.isnan(rows)
        count = known.sum(0)
        told = known & ((count >= self.least) | (count == len(rows)))
        part = np.where(told, rows, 0.0) * each[:, None]
        second = (part * np.where(told, rows, 0.0)).sum(0) if state["ready"][0] else np.zeros(rows.shape[1])
        return {"n": np.array([each.sum()]), "known": (told * each[:, None]).sum(0), "sum": part.sum(0), "second": second}

    def combine(self, state: State, contributions: list[State], weights: list[float]) -> State:
        """Return the means, and in the second round the standard deviations; a column that nobody knows keeps mean 0 and scale 1."""
        del weights
        total = {key: np.sum([part[key] for part in contributions], axis=0) for key in ("n", "known", "sum", "second")} if contributions else {}
        if not total or total["n"][0] <= 0:
            raise BadState("a statistic needs records", value=0)
        has = total["known"] > 0
        count = np.where(has, total["known"], 1.0)
        shift = total["sum"] / count
        mean = state["mean"] + shift
        if not state["ready"][0]:
            return {**state, "mean": mean, "ready": np.ones(1)}
        variance = np.maximum(total["second"] / count - shift**2, 0.0)
        varies = has & (variance > 1e-12 * np.maximum(mean**2, 1e-12))
        return {**state, "mean": mean, "scale": np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), 1.0)}

    def check(self, contribution: State, state: State) -> None:
        """Refuse sums of another shape, or that no records can have."""
        same_layout(contribution, self.contribution(state, np.zeros((0, len(self.columns))), np.zeros(0, int), seed=0))
        known, n = contribution["known"], contribution["n"][0]
        if not is_finite(contribution) or n < 0 or known.min(initial=0) < 0 or known.max(initial=0) > n + 1e-6:
            raise BadState("sums must be finite, and no column is known to more records than there are")
        if contribution["second"].min(initial=0) < 0:
            raise BadState("sums of squares are not negative")

    def own(self, state: State, x: np.ndarray) -> State:
        """Return nothing: every site applies the same numbers."""
        del state, x
        return {}

    def seen(self, state: State, own: State, x: np.ndarray) -> np.ndarray:
        """Return ``(x - mean) / scale``, NaN where a value is missing."""
        del own
        return (np.asarray(x, np.float64) - state["mean"]) / state["scale"]


def masked_scaler(columns: tuple[str, ...], *, least: Annotated[int, Field(ge=1, le=100)] = 5) -> MaskedScaler:
    """Standardise each column by mean and standard deviation of its known values over all sites' training records.

    Exact whatever is missing where: the fit equals that of the known values of all sites in one place, but for columns that fewer than `least`
    records of a site know (and not all of them); these the site leaves out. Two rounds.

    Parameters
    ----------
    columns : tuple of str
        Of the table.
    least : int
        Records of a site that must know a column.

    Examples
    --------
    >>> fit, sites = masked_scaler(("fvc",), least=1), [np.array([[40.0], [np.nan]]), np.array([[80.0], [60.0]])]
    >>> state = fit.start(seed=0)
    >>> for _ in range(2):
    ...     state = fit.combine(state, [fit.contribution(state, x, np.zeros(len(x), int), seed=0) for x in sites], [])
    >>> state["mean"].tolist(), bool(np.isclose(state["scale"][0], np.std([40, 80, 60])))
    ([60.0], True)
    >>> fit.seen(state, {}, np.array([[np.nan], [60.0]])).tolist()
    [[nan], [0.0]]
    """
    return MaskedScaler(columns, least)


SPEC = StatisticSpec(
    masked_scaler,
    takes="table",
    rounds=ROUNDS,
    source="Chan, Golub & LeVeque, Algorithms for computing the sample variance, Am Stat 1983; available cases: Little & Rubin, Statistical Analysis "
    "with Missing Data, 3.4",
)
