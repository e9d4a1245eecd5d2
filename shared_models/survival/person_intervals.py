"""Patients as intervals survived: a hazard in each interval is then a probability, and its likelihood a sum over patients and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared_models.survival.hazards import interval_of


def person_intervals(
    times: NDArray[np.float64], events: NDArray[np.float64], edges: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return of each interval that a patient was at risk in: number of the patient, number of the interval, 1 for an event in it.

    Who was last seen inside an interval counts only for those survived whole, as in `hazards.hazard_loss`; last seen at its very end, it was.

    Parameters
    ----------
    times, events : ndarray, shape (n,)
        Time, and 1 for an event or 0 for last seen.
    edges : sequence of float
        Ends of the intervals, rising.

    Notes
    -----
    Allison, Sociol Methodol 1982;13:61; Craig et al., Survival stacking, arXiv 2107.13480.

    Examples
    --------
    >>> patient, interval, event = person_intervals(np.array([1.5, 1.5, 9.0]), np.array([1.0, 0.0, 1.0]), [1.0, 2.0])
    >>> patient.tolist(), interval.tolist(), event.tolist()
    ([0, 0, 1, 2, 2], [0, 1, 0, 0, 1], [0.0, 1.0, 0.0, 0.0, 0.0])
    """
    ends, own = np.asarray(edges, np.float64), interval_of(times, edges)
    died = (events == 1) & (own < len(ends))
    whole = own + (~died & np.isin(times, ends))
    counts = np.minimum(whole, len(ends)) + died
    patient = np.repeat(np.arange(len(times)), counts)
    interval = np.arange(len(patient)) - np.repeat(np.cumsum(counts) - counts, counts)
    return patient, interval, (died[patient] & (interval == own[patient])).astype(np.float64)
