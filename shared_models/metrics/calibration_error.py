"""The expected calibration error less what noise alone makes of it, with the interval of the error that is really there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared_models.metrics.calibration import bin_of, bins_of, confidence_and_truth

FAR = 64.0
"""So many times the plain error is looked at."""


def debiased_ece(
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    patients: Sequence[Any] | None,
    *,
    bins: Annotated[int, Field(ge=2, le=100)] = 10,
    equal_mass: bool = True,
) -> dict[str, float | None]:
    """Return `calibration_error` of what `confidence_and_truth` judges, in the bins of `calibration.ece`; labels (n,), probabilities (n, k).

    Examples
    --------
    >>> p = np.repeat([0.2, 0.8], 50); y = np.tile(np.arange(10), 10) < 10 * p
    >>> found = debiased_ece(y.astype(int), np.stack([1 - p, p], 1), None)
    >>> found["value"], found["low"], 0 < found["high"] < 0.15
    (0.0, 0.0, True)
    """
    confidence, truth = confidence_and_truth(labels, probabilities)
    return calibration_error(confidence, truth, patients, bins=bins_of(confidence.size, bins) if equal_mass else bins, equal_mass=equal_mass)


def calibration_error(
    confidence: NDArray[Any], truth: NDArray[Any], patients: Sequence[Any] | None = None, *, bins: int = 10, equal_mass: bool = True
) -> dict[str, float | None]:
    """Return the mean gap between confidence and truth: ``value`` debiased, ``low`` to ``high`` its 95 % interval, ``plain`` as papers print it.

    The plain error adds up gaps without their sign, so noise makes it larger: with 40 patients and perfect probabilities it is about .1. Here each
    bin's gap is normal with the standard error of its patients, and one factor a stands for the size of all gaps. The value is that of the a
    under which the plain error, as seen, is its mean; the ends those under which it lies t standard deviations above or below.

    Parameters
    ----------
    confidence, truth : ndarray, shape (n,)
        Stated probability, and whether it came true.
    patients : sequence of length n, optional
        Whose each case is: a standard error is that of patients.

    Returns
    -------
    dict
        All None without cases; ends None with no two patients more than bins.

    Sources: bias of the plain error: Roelofs et al., AISTATS 2022; ends by inverting a test: Carpenter, J R Stat Soc B 1999;61:159; mean and
    variance of a folded normal: Leone, Nelson & Nottingham, Technometrics 1961;3:543.
    """
    from scipy.special import ndtr, stdtrit

    p, y = np.asarray(confidence, np.float64), np.asarray(truth, np.float64)
    n = p.size
    if not n:
        return {"value": None, "low": None, "high": None, "plain": None}
    who = np.arange(n) if patients is None else np.unique(np.asarray(list(patients)), return_inverse=True)[1]
    where, off = bin_of(p, bins, equal_mass), p - y
    held, gaps = np.bincount(where, minlength=bins), np.bincount(where, off, minlength=bins)
    cells, place = np.unique(where * (int(who.max()) + 1) + who, return_inverse=True)
    own = np.bincount(place, off - (gaps / np.maximum(held, 1))[where])  # by patient and bin
    bin_of_own = cells // (int(who.max()) + 1)
    several = np.bincount(bin_of_own, minlength=bins)
    noise = np.bincount(bin_of_own, own**2, minlength=bins) * several / np.maximum(several - 1, 1)
    spread, gaps = np.maximum(np.sqrt(noise) / n, 1e-12), np.abs(gaps) / n
    plain, free = float(gaps.sum()), int(who.max()) + 1 - bins
    # Which probabilities the sample holds was drawn, too: gaps differ between bins.
    between = max(0.0, float((gaps**2 / np.maximum(held / n, 1e-12)).sum()) - plain**2) / (int(who.max()) + 1)

    def beyond(factor: float, t: float) -> float:
        mean = factor * gaps
        folded = spread * np.sqrt(2 / np.pi) * np.exp(-((mean / spread) ** 2) / 2) + mean * (1 - 2 * ndtr(-mean / spread))
        return float(folded.sum() + t * np.sqrt(max(0.0, float((mean**2 + spread**2 - folded**2).sum())) + factor**2 * between)) - plain

    def error(t: float) -> float:
        low, high = 0.0, 1.0
        if plain == 0 or beyond(0.0, t) >= 0:
            return 0.0
        while beyond(high, t) < 0 and high < FAR:
            high *= 2
        for _ in range(34):
            middle = (low + high) / 2
            low, high = (middle, high) if beyond(middle, t) < 0 else (low, middle)
        return min(1.0, high * plain)

    quantile = float(stdtrit(free, 0.975)) if free >= 2 else None
    low, high = (None, None) if quantile is None else (error(quantile), error(-quantile))
    return {"value": error(0.0), "low": low, "high": high, "plain": plain}
