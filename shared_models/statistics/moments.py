"""Sums about a centre: counts, first and second moments of columns, from which scaler and principal components are read.

The first round sums the columns and finds a mean; the second sums them and their squares about it, so that nothing is lost to the size of the
values (Chan, Golub & LeVeque, Algorithms for computing the sample variance, The American Statistician 1983: shifted data). The second round
mends the mean, too: the fit is that of the sites in it, and one that misses it is not in the result at all.
"""

from __future__ import annotations

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

ROUNDS = 2


def unknown(columns: int) -> State:
    """Return what is known before the first round: no mean (`ready` is 0)."""
    return {"mean": np.zeros(columns), "ready": np.zeros(1)}


def summed(state: State, x: np.ndarray, weights: np.ndarray | None, *, products: bool) -> State:
    """Return ``n``, ``sum`` (c,) and ``second`` (c,), or (c, c) with `products`, of the rows of `x` (n, c) less the mean known so far.

    ``second`` stays zero before there is one.

    Examples
    --------
    >>> sums = summed({"mean": np.array([2.0]), "ready": np.ones(1)}, np.array([[1.0], [3.0]]), None, products=False)
    >>> sums["n"].tolist(), sums["sum"].tolist(), sums["second"].tolist()
    ([2.0], [0.0], [2.0])
    """
    rows = np.asarray(x, np.float64) - state["mean"]
    each = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    weighed = each[:, None] * rows
    if state["ready"][0]:
        second = weighed.T @ rows if products else (weighed * rows).sum(0)
    else:
        second = np.zeros((rows.shape[1],) * (2 if products else 1))
    return {"n": np.array([each.sum()]), "sum": weighed.sum(0), "second": second}


def parts(state: State) -> tuple[str, ...]:
    """Return the arrays that a round at `state` reads."""
    return ("n", "sum", "second") if state["ready"][0] else ("n", "sum")


def moments(centre: np.ndarray, contributions: list[State]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (c,) and variances (c,) or covariances (c, c), with n below, of the records behind the sums; no use before there is a mean.

    Raises
    ------
    BadState
        There are no records.
    """
    total = {key: np.sum([part[key] for part in contributions], axis=0) for key in ("n", "sum", "second")} if contributions else {}
    n = float(total["n"][0]) if total else 0.0
    if n <= 0:
        raise BadState("a statistic needs records", value=n)
    shift = total["sum"] / n
    if total["second"].ndim == 1:
        return centre + shift, np.maximum(total["second"] / n - shift**2, 0.0)
    whole = total["second"] / n - np.outer(shift, shift)
    return centre + shift, (whole + whole.T) / 2


def check_moments(sums: State, like: State) -> None:
    """Refuse sums of another shape than `like` and sums that no records can have.

    Raises
    ------
    BadState
        With what is wrong.
    """
    same_layout(sums, like)
    if not is_finite(sums) or sums["n"][0] < 0:
        raise BadState("sums must be finite and counts positive")
    second = sums["second"]
    if (np.diagonal(second) if second.ndim == 2 else second).min(initial=0) < 0:
        raise BadState("sums of squares are not negative")
    size = max(1.0, float(np.abs(second).max(initial=0)))
    if second.ndim == 2 and (
        np.abs(second - second.T).max(initial=0) > 1e-9 * size or np.linalg.eigvalsh(second).min(initial=0) < -1e-8 * size * len(second)
    ):
        raise BadState("products of columns must be symmetric and positive semidefinite")
