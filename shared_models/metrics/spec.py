"""What a metric is: one function of labels, probabilities and resampling counts, with the facts needed to print it.

Every entry of ``METRICS`` has the signature ``function(labels, probabilities, counts) -> rows``:

- `labels`, int, shape (n,): index of the true class;
- `probabilities`, float, shape (n, k): one row a case, rows sum to 1;
- `counts`, float, shape (b, n): how many times each case counts in each of b resamples (a row of ones is the sample itself);
- `rows`, float, shape (b,): the metric of each resample, NaN where it is undefined (NaN never leaves this package: callers get None).

So one vectorised call gives the estimate and its whole bootstrap distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[np.float64]
"""How many times each case counts in each resample, shape (b, n)."""

Rows: TypeAlias = NDArray[np.float64]
"""One value a resample, shape (b,); NaN is *undefined*."""

Interval: TypeAlias = tuple[float, float] | None
"""Lower and upper end, or None where no interval can be given."""

Scale: TypeAlias = Literal["share", "positive", "difference"]
"""Where a figure lives: from 0 to 1, from 0 on, or anywhere."""


@dataclass(frozen=True)
class MetricSpec:
    """An entry of ``METRICS``.

    Parameters
    ----------
    function : callable
        ``function(labels, probabilities, counts, *, knobs) -> rows``.
    title : str
        Name for readers.
    better : {"higher", "lower"}
        Which way is better.
    means : str
        One sentence for the glossary of a report.
    source : str
        Paper or definition.
    closed_form : callable, optional
        ``closed_form(labels, probabilities) -> (low, high) | None``, valid when each patient has one case.
    closed_form_when : {"always", "collapsed"}
        Use it always, or only where resamples say nothing (a perfect score in a small sample).
    scale : {"share", "positive"}
        On which the interval of the resamples is made (`resampled_interval`).
    interval : callable, optional
        ``interval(labels, probabilities, counts, *, knobs) -> (low, high) | None``, instead of that interval.
    estimate : callable, optional
        ``estimate(labels, probabilities, patients, *, knobs) -> {"value", "low", "high", ...}``, instead of figure and interval: for a figure that
        noise alone makes larger (ECE). Keys beside those three are printed with them.
    averages_classes : bool
        The value is a mean over those classes that are defined; their number is reported with it.
    """

    function: Callable[..., Rows]
    title: str
    better: Literal["higher", "lower"]
    means: str
    source: str
    closed_form: Callable[[NDArray[Any], NDArray[Any]], Interval] | None = None
    closed_form_when: Literal["always", "collapsed"] = "collapsed"
    scale: Scale = "share"
    interval: Callable[..., Interval] | None = None
    estimate: Callable[..., dict[str, float | None]] | None = None
    averages_classes: bool = False


def ones(cases: int) -> Counts:
    """Return the counts of the sample itself: one row of ones.

    Examples
    --------
    >>> ones(3)
    array([[1., 1., 1.]])
    """
    return np.ones((1, cases))


def number(value: Any) -> float | None:
    """Return `value` as a float, or None where it is NaN or infinite.

    Examples
    --------
    >>> number(np.float64(0.5)), number(float("nan"))
    (0.5, None)
    """
    value = float(value)
    return value if math.isfinite(value) else None


def ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``above / below``, NaN where `below` is 0, without a warning.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)


def mean_of_defined(values: NDArray[Any]) -> Rows:
    """Return the mean over the first axis of those entries that are not NaN; NaN where there is none.

    Examples
    --------
    >>> mean_of_defined(np.array([[1.0, np.nan], [0.5, np.nan]]))
    array([0.75,  nan])
    """
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))
