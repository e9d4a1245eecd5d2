"""Landmarks of the federation's lung histogram, from a histogram that is the sum over sites.

A site adds up the histograms of its patients, each of mass 1; the server adds up the sites and reads the percentiles. Neither the scans'
own landmarks nor any patient's histogram ever travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import is_finite, same_layout

PERCENTILES = (2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0)
"""Where landmarks stand: deciles, and both tails, which disease moves first."""
LOWEST_HU, HIGHEST_HU, STEP_HU = -1100.0, 200.0, 2.0
"""Range and bin width of the histogram; values beyond it count in the outermost bins."""
BINS = int((HIGHEST_HU - LOWEST_HU) / STEP_HU)


def contribution(patients: Iterable[NDArray[np.floating]]) -> State:
    """Return a site's sums: the number of patients, and their lung histograms added up, each of mass 1.

    Parameters
    ----------
    patients : iterable of ndarray
        Hounsfield units of the lung voxels of one patient each.

    Examples
    --------
    >>> sums = contribution([np.array([-900.0, -800.0]), np.array([-850.0])])
    >>> sums["patients"].tolist(), float(sums["histogram"].sum())
    ([2.0], 2.0)
    """
    total, count = np.zeros(BINS), 0
    for values in patients:
        if len(values):
            cell = np.clip(((np.asarray(values, np.float64) - LOWEST_HU) / STEP_HU).astype(int), 0, BINS - 1)
            total += np.bincount(cell, minlength=BINS) / len(values)
            count += 1
    return {"patients": np.array([float(count)]), "histogram": total}


def check(sums: State) -> None:
    """Refuse sums that no patients can have.

    Raises
    ------
    BadState
        Other arrays, negative or infinite numbers, or a mass that is not the number of patients.
    """
    same_layout(sums, contribution([]))
    if not is_finite(sums) or (sums["histogram"] < 0).any() or sums["patients"][0] < 0:
        raise BadState("sums of histograms must be finite and not negative")
    if abs(float(sums["histogram"].sum()) - float(sums["patients"][0])) > 1e-6 * max(1.0, float(sums["patients"][0])):
        raise BadState("every patient counts once in the histogram", value=float(sums["histogram"].sum()))


def finish(parts: Sequence[State]) -> tuple[float, ...]:
    """Return the federation's landmarks in HU at `PERCENTILES`: the knob ``standard_hu`` of the step ``standardise``.

    Parameters
    ----------
    parts : sequence of State
        The sites' sums, or their total alone.

    Raises
    ------
    BadState
        Malformed sums, or no patients at all.

    Examples
    --------
    >>> lungs = [np.random.default_rng(seed).normal(-850, 50, 20_000) for seed in range(4)]
    >>> marks = finish([contribution(lungs[:1]), contribution(lungs[1:])])
    >>> round(marks[6]), marks == finish([contribution(lungs)])
    (-850, True)
    """
    for part in parts:
        check(part)
    total = np.sum([part["histogram"] for part in parts], axis=0) if parts else np.zeros(BINS)
    mass = float(total.sum())
    if mass <= 0:
        raise BadState("landmarks need at least one patient", value=0)
    below = np.concatenate([[0.0], np.cumsum(total) / mass])
    edges = LOWEST_HU + STEP_HU * np.arange(BINS + 1)
    marks = []
    for percentile in PERCENTILES:
        bin_ = int(np.clip(np.searchsorted(below, percentile / 100, side="right") - 1, 0, BINS - 1))
        inside = (percentile / 100 - below[bin_]) / max(below[bin_ + 1] - below[bin_], 1e-300)
        marks.append(float(edges[bin_] + STEP_HU * min(1.0, inside)))
    for i in range(1, len(marks)):  # a lung of very few values gives equal landmarks, which no mapping can use
        marks[i] = max(marks[i], marks[i - 1] + 1e-3)
    return tuple(round(mark, 6) for mark in marks)
