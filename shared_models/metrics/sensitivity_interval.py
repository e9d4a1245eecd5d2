"""How sure a sensitivity at a fixed specificity is: its threshold is drawn with the sample, which an interval of a share alone would forget."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.ranking import sensitivity_at, sensitivity_rows
from shared_models.metrics.spec import Counts, Interval

Z = 1.959963984540054


def sensitivity_interval(truth: NDArray[Any], scores: NDArray[Any], counts: Counts, *, specificity: float = 0.9) -> Interval:
    """Return the interval BTII of the sensitivity at `specificity`; None without resamples, positives or negatives.

    Of each resample the threshold is chosen anew and the share is drawn towards one half, ``(hits + z^2 / 2) / (positives + z^2)``; the ends are the
    resamples' mean -+ z standard deviations, and never leave the sensitivity itself out.

    Parameters
    ----------
    truth, scores : ndarray, shape (n,)
        0 or 1, and the score.
    counts : ndarray, shape (b, n)
        Resampling counts.

    Source: Zhou & Qin, Stat Med 2005;24:465.

    Examples
    --------
    >>> from shared_models.metrics.intervals import bootstrap_counts
    >>> truth = np.arange(40) < 20
    >>> low, high = sensitivity_interval(truth, np.where(truth, 2.0, 0.0) + np.arange(40) % 7, bootstrap_counts(40, 200))
    >>> low < sensitivity_at(truth, np.where(truth, 2.0, 0.0) + np.arange(40) % 7) < high
    True
    """
    value = sensitivity_at(truth, scores, specificity=specificity)
    if value is None or not len(counts):
        return None
    shares, positives = sensitivity_rows(truth, scores, counts, specificity), counts @ np.asarray(truth, np.float64)
    known = ~np.isnan(shares)
    if known.sum() * 2 < len(counts):
        return None
    drawn = (shares[known] * positives[known] + Z**2 / 2) / (positives[known] + Z**2)
    middle, half = float(drawn.mean()), Z * float(drawn.std(ddof=1))
    return max(0.0, min(middle - half, value)), min(1.0, max(middle + half, value))
