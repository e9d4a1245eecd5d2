"""How well two measurements of the same thing agree: CCC, limits of agreement, repeatability, ICC(2,1), quadratic kappa."""

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


def agreement_of(a: Any, b: Any) -> dict[str, dict[str, float | int | None]]:
    """Return how b agrees with a, each figure as ``value`` with its 95 % interval ``low`` and ``high`` and ``n``; None where it is undefined.

    ``bias`` (mean of b - a), ``limit_low`` and ``limit_high`` (95 % limits of agreement), ``mae`` (mean absolute error, t interval), ``ccc`` (Lin's).
    Intervals: Student's t for means; for limits the standard error ``s sqrt(1/n + 1.96^2 / (2 (n - 1)))``; for the CCC Lin's asymptotic normality of
    its inverse hyperbolic tangent. Sources: Bland & Altman, Stat Methods Med Res 1999;8:135; Lin, Biometrics 1989;45:255, corrected 2000;56:324.

    Parameters
    ----------
    a, b : array-like, shape (n,)
        Reference and measurement of the same cases, in one unit.

    Examples
    --------
    >>> found = agreement_of([5, 10, 20, 30, 40], [7, 11, 24, 31, 45])
    >>> [round(found["bias"][k], 2) for k in ("low", "value", "high")], round(found["ccc"]["value"], 4), round(found["mae"]["value"], 1)
    ([0.34, 2.6, 4.86], 0.9739, 2.6)
    """
    from scipy.special import stdtrit

    a, b = _pair(a, b)
    n = a.size
    if n < 2:
        empty: dict[str, float | int | None] = {"value": None, "low": None, "high": None, "n": int(n)}
        return {name: dict(empty) for name in ("bias", "limit_low", "limit_high", "mae", "ccc")}
    gap, spread = b - a, float((b - a).std(ddof=1))
    beyond = float(stdtrit(n - 1, 0.975))
    mean, limit = spread / np.sqrt(n), spread * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))

    def about(value: float, error: float) -> dict[str, float | int | None]:
        return {"value": value, "low": value - beyond * error, "high": value + beyond * error, "n": int(n)}

    bias, apart = float(gap.mean()), np.abs(gap)
    error = about(float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(n)))
    return {
        "bias": about(bias, float(mean)),
        "limit_low": about(bias - 1.96 * spread, float(limit)),
        "limit_high": about(bias + 1.96 * spread, float(limit)),
        "mae": error | {"low": max(0.0, float(error["low"] or 0.0))},
        "ccc": _concordance_interval(a, b),
    }


def _concordance_interval(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | int | None]:
    n, rho = a.size, concordance(a, b)
    out: dict[str, float | int | None] = {"value": rho, "low": None, "high": None, "n": int(n)}
    if rho is None or n < 3 or min(a.std(), b.std()) == 0 or not 0 < abs(rho) < 1:
        return out
    r = float(np.corrcoef(a, b)[0, 1])
    if abs(r) >= 1:
        return out
    shift2 = float((a.mean() - b.mean()) ** 2 / (a.std() * b.std()))
    part = (1 - r**2) * rho**2 / ((1 - rho**2) * r**2) + 2 * rho**3 * (1 - rho) * shift2 / (r * (1 - rho**2) ** 2)
    part -= rho**4 * shift2**2 / (2 * r**2 * (1 - rho**2) ** 2)
    error = float(np.sqrt(max(part, 0.0) / (n - 2)))
    return out | {"low": float(np.tanh(np.arctanh(rho) - 1.96 * error)), "high": float(np.tanh(np.arctanh(rho) + 1.96 * error))}


def repeatability(first: Any, second: Any) -> dict[str, float | int | None]:
    """Return the repeatability coefficient of two measurements of the same unchanged cases, with a 95 % interval.

    ``1.96 sqrt(2) s_w``, with the within-case variance ``s_w^2 = mean(d^2) / 2``: a change below it is compatible with none, in 95 of 100 cases. The
    interval comes from the chi-squared distribution of ``n s_w^2``. Source: Bland & Altman, Stat Methods Med Res 1999;8:135, section 2.

    Examples
    --------
    >>> {k: round(v, 3) for k, v in repeatability([5, 10, 20, 30], [6, 9, 22, 30]).items()}
    {'value': 2.4, 'low': 1.438, 'high': 6.898, 'n': 4}
    """
    from scipy.special import chdtri

    first, second = _pair(first, second)
    n = first.size
    if n < 2:
        return {"value": None, "low": None, "high": None, "n": int(n)}
    total = float(((first - second) ** 2).sum()) / 2
    low, high = (float(1.96 * np.sqrt(2 * total / chdtri(n, 1 - share))) for share in (0.975, 0.025))
    return {"value": float(1.96 * np.sqrt(2 * total / n)), "low": low, "high": high, "n": int(n)}


def change_limit(agreement: dict[str, Any]) -> float | None:
    """Return how large a change between two visits must be to exceed the error of both measurements, by how one measurement agrees with the truth.

    ``1.96 sqrt(2) s``, s being the standard deviation of the errors: half the width of the limits of agreement over 1.96. Errors of the two
    visits are taken as independent, which overstates the limit where a patient's errors are alike. None where the agreement is not known.

    Examples
    --------
    >>> round(change_limit({"limit_low": {"value": -2.0}, "limit_high": {"value": 4.0}}), 3)
    4.243
    """
    low, high = ((agreement.get(name) or {}).get("value") for name in ("limit_low", "limit_high"))
    return None if low is None or high is None else float(np.sqrt(2) * (high - low) / 2)


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
