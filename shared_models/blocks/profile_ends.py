"""Ends of profile-likelihood intervals by Newton's method: all ends at once, each from likelihood, gradient and information at its own place.

The interval of a coefficient is where the likelihood, at its largest over all other coefficients, lies at most ``q/2`` below its maximum, q being
the 95 % quantile of chi-square with one degree of freedom. Unlike Wald's it need not be symmetric, and it does not hang on the scale.

Source: Venzon & Moolgavkar, A method for computing profile-likelihood-based confidence intervals, Appl Stat 1988;37:87.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DROP = 1.920729410347062
"""Half of the 95 % quantile of chi-square with one degree of freedom."""

LONGEST = 4.0
"""No step moves a coefficient further: standard deviations of its column."""

CLOSE = 1e-5
"""An end is found where the likelihood misses its mark, and could still grow along the other coefficients, by no more than this."""

UNKNOWN = 1e300
"""What an end misses that nobody has looked for, or that no patient tells of."""


def first_ends(best: Floats, information: Floats) -> Floats:
    """Return where to look first for the lower, then the upper end of each coefficient, shape (2 p, p): Wald's, the others following.

    Parameters
    ----------
    best : ndarray, shape (p,)
        Coefficients of the largest likelihood.
    information : ndarray, shape (p, p)
        There.
    """
    inverse = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
    spread = np.sqrt(np.maximum(np.diag(inverse), 0.0))
    step = np.divide(inverse, spread, out=np.zeros_like(inverse), where=spread > 0).T * np.sqrt(2 * DROP)
    return np.concatenate([best - step, best + step])


def next_ends(ends: Floats, largest: float, values: Floats, slopes: Floats, bends: Floats) -> tuple[Floats, Floats]:
    """Return where to look next, shape (2 p, p), and by how much each end misses what it should be, shape (2 p,).

    Parameters
    ----------
    ends : ndarray, shape (2 p, p)
        Where `values` (2 p,), `slopes` (2 p, p) and `bends` (2 p, p, p), the log likelihood with its gradient and information, were found.
    largest : float
        The largest log likelihood.
    """
    p = ends.shape[1]
    following, misses = ends.copy(), np.zeros(2 * p)
    for number in range(2 * p):
        own, sign = number % p, 1.0 if number >= p else -1.0
        inverse = np.linalg.pinv(bends[number], rcond=1e-12, hermitian=True)
        free = np.arange(p) != own
        rest = slopes[number, free] @ np.linalg.pinv(bends[number][np.ix_(free, free)], rcond=1e-12, hermitian=True) @ slopes[number, free]
        above = float(values[number] - (largest - DROP))
        misses[number] = abs(above) + rest
        if inverse[own, own] <= 0:  # nothing is known of this column
            misses[number] = UNKNOWN
            continue
        reach = max(0.0, 2 * (above + 0.5 * float(slopes[number] @ inverse @ slopes[number])) / inverse[own, own])
        step = inverse @ slopes[number] + sign * np.sqrt(reach) * inverse[own]
        following[number] += step * min(1.0, LONGEST / max(float(np.abs(step).max()), 1e-300))
    return following, misses
