"""How sure a calibration slope and intercept are: the values that a likelihood-ratio test does not reject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.calibration import calibration_line

LIMIT = 3.841458820694124
"""The 95 % quantile of chi-squared with one degree of freedom."""
FAR = 60.0
"""Beyond this a slope or intercept is not looked for: the interval is then open, and told as None."""


def calibration_cells(truth: NDArray[Any], scores: NDArray[Any]) -> dict[str, dict[str, float | None]]:
    """Return ``slope`` and ``intercept`` of `calibration_line`, each with the ends of its profile-likelihood interval; one case a patient.

    An end that lies nowhere (scores that nearly separate the outcomes) is None. Source: Venzon & Moolgavkar, Appl Stat 1988;37:87.

    Examples
    --------
    >>> p = np.repeat([.2, .8], 10); y = np.concatenate([np.arange(10) < 2, np.arange(10) < 8])
    >>> found = calibration_cells(y, p)
    >>> [round(found["slope"][end], 2) for end in ("low", "value", "high")]
    [0.28, 1.0, 1.9]
    """
    line = calibration_line(truth, scores)
    if line is None:
        return {name: {"value": None, "low": None, "high": None} for name in ("slope", "intercept")}
    y, p = np.asarray(truth, np.float64), np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    x = np.log(p / (1 - p))

    def profile(slope: float) -> float:
        return _deviance(_intercept(slope * x, y) + slope * x, y)

    def plain(intercept: float) -> float:
        return _deviance(intercept + x, y)

    return {name: _cell(line[name], of) for name, of in (("slope", profile), ("intercept", plain))}


def _deviance(eta: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(2 * (np.logaddexp(0.0, eta) - y * eta).sum())


def _intercept(offset: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the intercept that fits best beside an offset, by Newton's method kept between its ends."""
    low, high = -offset.max() - 40.0, -offset.min() + 40.0
    at = float(np.clip(0.0, low, high))
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(at + offset, -500, 500)))
        surplus = float((p - y).sum())
        low, high = (low, at) if surplus > 0 else (at, high)
        curvature = float((p * (1 - p)).sum())
        step = at - surplus / curvature if curvature > 1e-12 else (low + high) / 2
        after = step if low < step < high else (low + high) / 2
        if abs(after - at) < 1e-10:
            return after
        at = after
    return at


def _cell(value: float, deviance: Callable[[float], float]) -> dict[str, float | None]:
    least = deviance(value)
    ends = []
    for side in (-1.0, 1.0):
        step, near = side, value
        while deviance(value + step) - least < LIMIT and abs(step) < FAR:
            near, step = value + step, 2 * step
        if abs(step) >= FAR:
            ends.append(None)
            continue
        far = value + step
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (middle, far) if deviance(middle) - least < LIMIT else (near, middle)
        ends.append((near + far) / 2)
    return {"value": value, "low": ends[0], "high": ends[1]}
