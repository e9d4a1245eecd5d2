"""How well two measurements of the same thing agree: CCC, limits of agreement, ICC(2,1), quadratic kappa."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.spec import number, ratio


def _pair(a: Any, b: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise BadInput("two measurements need one value each for the same cases", value=(a.shape, b.shape))
    return a, b


def concordance(a: Any, b: Any) -> float | None:
    """Return Lin's concordance correlation coefficient with population moments; None with fewer than 2 cases or two equal constants.

    ``2 cov(a, b) / (var(a) + var(b) + (mean(a) - mean(b))^2)``: 1 only where a equals b. Source: Lin, Biometrics 1989;45:255.

    Examples
    --------
    >>> round(concordance([5, 10, 20, 30, 40], [7, 11, 24, 31, 45]), 6)
    0.973903
    """
    a, b = _pair(a, b)
    if a.size < 2:
        return None
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    return number(ratio(2 * covariance, a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def bland_altman(a: Any, b: Any) -> dict[str, float] | None:
    """Return the ``bias`` (mean of b - a) and the 95 % limits of agreement ``low`` and ``high``, in the unit of a; None below 2 cases.

    Limits are bias -+ 1.96 standard deviations (n - 1). Source: Bland & Altman, Lancet 1986;327:307.

    Examples
    --------
    >>> {k: round(v, 3) for k, v in bland_altman([5, 10, 20, 30, 40], [7, 11, 24, 31, 45]).items()}
    {'bias': 2.6, 'low': -0.961, 'high': 6.161}
    """
    a, b = _pair(a, b)
    if a.size < 2:
        return None
    bias, spread = float((b - a).mean()), float(1.96 * (b - a).std(ddof=1))
    return {"bias": bias, "low": bias - spread, "high": bias + spread}


def icc_2_1(ratings: Any) -> float | None:
    """Return ICC(2,1): absolute agreement of single ratings, two-way random effects.

    Parameters
    ----------
    ratings : array, shape (cases, raters)
        No gaps.

    Returns
    -------
    float or None
        ``(MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)``; None with fewer than 2 cases or raters, or where nothing varies.

    Source: Shrout & Fleiss, Psychol Bull 1979;86:420 (their table 4 gives 0.29 for the example).

    Examples
    --------
    >>> round(icc_2_1([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]), 2)
    0.29
    """
    x = np.asarray(ratings, np.float64)
    if x.ndim != 2:
        raise BadInput("ratings have the shape (cases, raters)", value=x.shape)
    n, k = x.shape
    if n < 2 or k < 2:
        return None
    rows, columns = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    between_cases = k * ((rows - x.mean()) ** 2).sum() / (n - 1)
    between_raters = n * ((columns - x.mean()) ** 2).sum() / (k - 1)
    error = ((x - rows - columns + x.mean()) ** 2).sum() / ((n - 1) * (k - 1))
    return number(ratio(between_cases - error, between_cases + (k - 1) * error + k * (between_raters - error) / n))


def quadratic_kappa(a: Any, b: Any, *, grades: int) -> float | None:
    """Return Cohen's kappa of two gradings 0 .. grades - 1 with squared-distance weights; None where both give one same grade throughout.

    Source: Cohen, Psychol Bull 1968;70:213.

    Examples
    --------
    >>> round(quadratic_kappa([0, 1, 2, 2], [0, 1, 1, 2], grades=3), 4)
    0.8
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape or first.ndim != 1:
        raise BadInput("two gradings need one grade each for the same cases", value=(first.shape, second.shape))
    if first.size and not (min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) < grades):
        raise BadInput(f"grades run from 0 to {grades - 1}", value=(int(min(first.min(), second.min())), int(max(first.max(), second.max()))))
    observed = np.bincount(first.astype(np.int64) * grades + second.astype(np.int64), minlength=grades * grades).reshape(grades, grades)
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / max(first.size, 1)
    weights = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    disagreement = number(ratio((weights * observed).sum(), (weights * expected).sum()))
    return None if disagreement is None else 1.0 - disagreement
