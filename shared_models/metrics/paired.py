"""Comparing methods that ran side by side: over seeds by Student's t on their differences, over patients by a paired bootstrap."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.scoring import as_predictions, metric_rows
from shared_models.metrics.spec import MetricSpec, Scale


@dataclass(frozen=True)
class Group:
    """Predictions that are scored together: those of one test set.

    Parameters
    ----------
    labels : sequence of int, length n
    probabilities : sequence of rows, shape (n, k)
    patients : sequence of str, length n
        Whose case it is: patients are drawn, not cases.
    """

    labels: Sequence[int]
    probabilities: Sequence[Sequence[float]]
    patients: Sequence[str]


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> dict[str, float | int | None]:
    """Return the mean of independent repetitions with Student's interval: ``mean +- t sd / sqrt(n)``.

    Returns
    -------
    dict
        ``value``, ``sd`` (n - 1), ``low``, ``high``, ``n``; all but ``value`` and ``n`` are None below two values, all but ``n`` with none.

    Source: Student, Biometrika 1908;6:1.

    Examples
    --------
    >>> found = t_interval([0.70, 0.72, 0.74])
    >>> round(found["value"], 3), round(found["sd"], 3), round(found["low"], 3)
    (0.72, 0.02, 0.67)
    """
    x = np.asarray(values, np.float64)
    if x.size < 2:
        return {"value": float(x[0]) if x.size else None, "sd": None, "low": None, "high": None, "n": int(x.size)}
    from scipy.special import stdtrit

    mean, sd = float(x.mean()), float(x.std(ddof=1))
    half = float(stdtrit(x.size - 1, 0.5 + confidence / 2)) * sd / math.sqrt(x.size)
    return {"value": mean, "sd": sd, "low": mean - half, "high": mean + half, "n": int(x.size)}


def paired_t(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float | int | None]:
    """Compare two methods over the same seeds: mean difference (ours - theirs), its 95 % interval and the two-sided p of the paired t-test.

    With a handful of seeds no rank test can reach p < 0.05; the t-test can, at the price of assuming differences that are roughly normal.

    Returns
    -------
    dict
        As `t_interval` of the differences, and ``p``: None below two seeds, or where all differences are alike but not zero.

    Raises
    ------
    BadInput
        Unequal numbers.

    Source: Student, Biometrika 1908;6:1.

    Examples
    --------
    >>> round(paired_t([0.70, 0.72, 0.74], [0.68, 0.71, 0.71])["p"], 3)
    0.074
    """
    if len(ours) != len(theirs):
        raise BadInput("a paired comparison needs one value a seed on both sides", value=(len(ours), len(theirs)))
    found = t_interval(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))  # type: ignore[arg-type]
    if found["sd"] is None or found["value"] is None:
        return {**found, "p": None}
    if found["sd"] < 1e-12:
        return {**found, "p": 1.0 if abs(found["value"]) < 1e-12 else None}
    from scipy.special import stdtr

    n = int(found["n"] or 0)
    return {**found, "p": float(2 * stdtr(n - 1, -abs(found["value"]) / (found["sd"] / math.sqrt(n))))}


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number by Holm's step-down method; None stays None and is not counted.

    Source: Holm, Scand J Stat 1979;6:65.

    Examples
    --------
    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted


def resampled(spec: MetricSpec, groups: Mapping[str, Group], classes: Sequence[str], *, bootstrap: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the mean over groups of a metric, as it is (first row) and for each resample of patients; shape (1 + bootstrap,), NaN undefined.

    What is drawn hangs on a group's name and its patients alone, so two methods on the same patients see the same resamples, and so do two
    seeds: subtract the rows of one from those of the other for a paired bootstrap.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8.

    Examples
    --------
    >>> from shared_models.metrics import METRICS
    >>> group = Group([0, 1, 1], [[.9, .1], [.2, .8], [.6, .4]], ["a", "b", "c"])
    >>> rows = resampled(METRICS["accuracy"], {"here": group}, ["no", "yes"], bootstrap=2)
    >>> len(rows), round(float(rows[0]), 3)
    (3, 0.667)
    """
    parts = []
    for name, group in groups.items():
        y, p = as_predictions(group.labels, group.probabilities, classes)
        drawn = zlib.crc32("\n".join((str(seed), name, *group.patients)).encode())
        counts = np.concatenate([np.ones((1, y.size)), bootstrap_counts(y.size, bootstrap, groups=group.patients, seed=drawn)])
        parts.append(metric_rows(spec, y, p, counts))
    return np.mean(parts, axis=0)


def summary(rows: NDArray[Any], patients: int, *, scale: Scale = "share") -> dict[str, float | None]:
    """Return the value and the 95 % interval over patients (`resampled_interval`) of rows as `resampled` gives them; None where undefined."""
    value = None if math.isnan(rows[0]) else float(rows[0])
    low, high = (None if value is None else resampled_interval(rows[1:], value, patients, scale=scale)) or (None, None)
    return {"value": value, "low": low, "high": high}
