"""The calibration slope from histograms whose counts are placed low and high: an estimate, and bounds that hold the slope of the patients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared_models.calibration.score_histograms import HIGH, LOW
from shared_models.judging.released_bounds import CLIP, Counts, Histogram
from shared_models.metrics.calibration import weighted_line

FARTHEST = 8.0
"""A slope farther from 0 is not bounded: the bound is then open, and told as None."""
PIECES, INTERCEPTS = 8, 16
"""A cell, and the range of the intercept, are taken apart into so many."""


def slope_estimate(h: Histogram) -> float | None:
    """Return the slope of the patients counted, each rank in the middle between its lowest and its highest cell; None where there is none."""
    if h.positives[LOW].sum() == 0 or h.rest[LOW].sum() == 0:
        return None
    parts = []
    for row, event in ((h.rest, 0.0), (h.positives, 1.0)):
        lowest, highest, count = _ranks(row)
        parts.append((np.full(len(count), event), (h.edges[lowest] + h.edges[highest + 1]) / 2, count))
    truth, middle, count = (np.concatenate([part[place] for part in parts]) for place in range(3))
    line = weighted_line(truth, _logit(middle), count)
    return None if line is None else line[1]


def _ranks(row: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64], Counts]:
    """Return the lowest and the highest cell of patients by rank, and how many in a row have the same two."""
    low, high = np.cumsum(row[LOW]), np.cumsum(row[HIGH])
    ends = np.unique(np.concatenate([low, high]))
    ends = ends[ends > 0]
    return np.searchsorted(low, ends - 0.5), np.searchsorted(high, ends - 0.5), np.diff(ends, prepend=0.0)


def slope_bounds(h: Histogram, estimate: float | None) -> tuple[float | None, float | None]:
    """Return the lowest and the highest that the calibration slope of the patients can be, as far as it can be told; None is an open end.

    The likelihood's profile over the intercept is concave in the slope: the slope is at least b where the profile still rises there,
    ``sum (x - c)(y - p) >= 0`` with p at the intercept a(b), for any c. The patient of each rank lies between the patients placed low and those
    placed high of that rank; that interval, and the range that a(b) then has, are taken apart, and in each part x - c and p are bounded by
    themselves. So a bound holds whatever the patients are, and may be wider than the arrangements ask for.

    Parameters
    ----------
    h : Histogram
        Of one class.
    estimate : float or None
        Where to start from: `slope_estimate`.

    Notes
    -----
    Interval arithmetic: Moore, Interval Analysis, 1966, chapter 3 (range by subdivision).
    """
    if estimate is None or not abs(estimate) < FARTHEST:
        return None, None
    boxes = _Boxes.of(h)
    return _end(lambda b: boxes.rises(b, up=True), estimate, -FARTHEST), _end(lambda b: boxes.rises(b, up=False), estimate, FARTHEST)


def _end(certain: Callable[[float], bool], start: float, far: float) -> float | None:
    """Return the slope nearest to `start` that is certainly passed, coming from `far`; None where none is."""
    if not certain(far):
        return None
    near = start
    for _ in range(9):
        middle = (near + far) / 2
        near, far = (near, middle) if certain(middle) else (middle, far)
    return float(far)


def _logit(p: NDArray[np.float64]) -> Counts:
    p = np.clip(p, CLIP, 1 - CLIP)
    return np.log(p / (1 - p))


class _Boxes:
    """Patients by the interval that the logit of their probability lies in: `low`, `high`, `count`; `event` is 1, 0, or NaN where it is not known."""

    def __init__(self, low: Counts, high: Counts, count: Counts, event: Counts) -> None:
        self.low, self.high, self.count, self.event = low, high, count, event
        parts = np.linspace(0, 1, PIECES + 1)
        cuts = low[:, None] + (high - low)[:, None] * parts
        self.left, self.right = cuts[:, :-1], cuts[:, 1:]
        self.events = float(count[event == 1].sum())
        self.unknown = float(count[np.isnan(event)].sum())

    @classmethod
    def of(cls, h: Histogram) -> _Boxes:
        edges = _logit(h.edges)
        found: list[tuple[Counts, Counts, Counts, float]] = []
        for row, event in ((h.rest, 0.0), (h.positives, 1.0)):
            lowest, highest, count = _ranks(row)
            found.append((edges[lowest], edges[highest + 1], count, event))
        if h.missing:
            found.append((edges[:1], edges[-1:], np.array([float(h.missing)]), np.nan))
        low, high, count = (np.concatenate([part[place] for part in found]) for place in range(3))
        return cls(low, high, count, np.concatenate([np.full(len(part[2]), part[3]) for part in found]))

    def rises(self, slope: float, *, up: bool) -> bool:
        """Say whether the profile certainly rises at this slope (or, not `up`, falls), whatever the patients are."""
        from scipy.special import expit

        ends = [slope * self.low, slope * self.high]
        smallest, largest = np.minimum(*ends), np.maximum(*ends)
        # The more events and the smaller the rest of the predictor, the larger the intercept.
        lowest, highest = self._intercept(largest, self.events), self._intercept(smallest, self.events + self.unknown)
        if lowest is None or highest is None:
            return False
        cuts = np.linspace(lowest, highest, INTERCEPTS + 1)
        middle = float(self.count @ (self.low + self.high) / 2 / self.count.sum())
        for a, b in pairwise(cuts):
            steep = slope * self.left, slope * self.right
            p_left, p_right = expit(a + np.minimum(*steep)), expit(b + np.maximum(*steep))
            weight = self.count * (p := expit((a + b) / 2 + slope * (self.low + self.high) / 2)) * (1 - p)
            centres = {middle, float(weight @ (self.low + self.high) / 2 / max(weight.sum(), 1e-300))}
            if max(self._least(p_left, p_right, centre, up) for centre in centres) < 0:
                return False
        return True

    def _least(self, p_left: Counts, p_right: Counts, centre: float, up: bool) -> float:
        x_left, x_right = self.left - centre, self.right - centre
        sign = 1.0 if up else -1.0

        def least(from_: Counts, to: Counts) -> Counts:
            return np.min([sign * x * r for x in (x_left, x_right) for r in (from_, to)], axis=0).min(axis=1)

        alive, event = least(-p_right, -p_left), least(1 - p_right, 1 - p_left)
        own = np.where(self.event == 1, event, np.where(self.event == 0, alive, np.minimum(alive, event)))
        return float(self.count @ own)

    def _intercept(self, offset: Counts, events: float) -> float | None:
        from scipy.optimize import brentq
        from scipy.special import expit

        if not 0 < events < self.count.sum():
            return None
        return float(brentq(lambda a: float(self.count @ expit(a + offset)) - events, -400.0, 400.0, xtol=1e-10))  # type: ignore[arg-type]
