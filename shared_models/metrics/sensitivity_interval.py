"""How sure a sensitivity at a fixed specificity is: its threshold is drawn with the sample, which an interval of a share alone would forget."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.ranking import sensitivity_at, sensitivity_rows
from shared_models.metrics.spec import Counts, Interval, Rows, mean_of_defined

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
    return None if value is None else _ends(_drawn(truth, scores, counts, specificity), value)


def mean_sensitivity_interval(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts, *, specificity: float = 0.9) -> Interval:
    """Return the same interval of the mean over those classes whose sensitivity is defined, each against the rest; `labels` index the columns.

    Examples
    --------
    >>> from shared_models.metrics.intervals import bootstrap_counts
    >>> p = np.linspace(0.1, 0.9, 40)
    >>> low, high = mean_sensitivity_interval((p > 0.5) ^ (np.arange(40) % 5 == 0), np.stack([1 - p, p], 1), bootstrap_counts(40, 200))
    >>> 0 < low < high < 1
    True
    """
    classes = [(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])]
    values = [sensitivity_at(truth, scores, specificity=specificity) for truth, scores in classes]
    if all(value is None for value in values):
        return None
    drawn = mean_of_defined(np.stack([_drawn(truth, scores, counts, specificity) for truth, scores in classes]))
    return _ends(drawn, float(np.mean([value for value in values if value is not None])))


def _drawn(truth: NDArray[Any], scores: NDArray[Any], counts: Counts, specificity: float) -> Rows:
    """Return the sensitivity of each resample drawn towards one half, NaN where it is undefined."""
    shares, positives = sensitivity_rows(truth, scores, counts, specificity), counts @ np.asarray(truth, np.float64)
    return (shares * positives + Z**2 / 2) / (positives + Z**2)


def _ends(drawn: Rows, value: float) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if known.size < 2 or known.size * 2 < drawn.size:
        return None
    middle, half = float(known.mean()), Z * float(known.std(ddof=1))
    return max(0.0, min(middle - half, value)), min(1.0, max(middle + half, value))
