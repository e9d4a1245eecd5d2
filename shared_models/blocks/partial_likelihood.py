"""Cox's partial likelihood of one stratum, with its gradient and information, by one pass from the last time to the first, and by time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np

Ties = Literal["efron", "breslow"]


def partial_likelihood(
    x: np.ndarray, times: np.ndarray, events: np.ndarray, coefficients: np.ndarray, *, ties: Ties = "efron"
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return log partial likelihood, gradient (p,) and observed information (p, p) at `coefficients`.

    With ``d`` events at one time, whose weights ``w = exp(x b)`` sum to D, and the weights R of all who are still at risk then, event
    number ``l = 0 .. d - 1`` has the denominator ``R - l/d D`` (Efron) or ``R`` (Breslow).

    Parameters
    ----------
    x : ndarray, shape (n, p)
        Covariates.
    times : ndarray, shape (n,)
        Time to the event, or to the day last seen.
    events : ndarray of 0 and 1, shape (n,)
        Which of the two it is.
    coefficients : ndarray, shape (p,)
        Log hazard ratios.
    ties : str
        How events at one time count.

    Notes
    -----
    Cox, J R Stat Soc B 1972;34:187; Efron, J Am Stat Assoc 1977;72:557; Breslow, Biometrics 1974;30:89.

    Examples
    --------
    >>> value, slope, bend = partial_likelihood(np.array([[0.0], [1.0]]), np.array([1.0, 2.0]), np.array([0, 1]), np.zeros(1))
    >>> value, slope.tolist(), bend.tolist()
    (0.0, [0.0], [[0.0]])
    """
    p = x.shape[1]
    value, gradient, information = 0.0, np.zeros(p), np.zeros((p, p))
    for _, one, slope, bend in by_event_time(x, times, events, coefficients, ties=ties):
        value += one
        gradient += slope
        information += bend
    return value, gradient, information


def by_event_time(
    x: np.ndarray, times: np.ndarray, events: np.ndarray, coefficients: np.ndarray, *, ties: Ties = "efron"
) -> Iterator[tuple[float, float, np.ndarray, np.ndarray]]:
    """Yield, from the last to the first, each time with events: the time and its terms of log likelihood, gradient and information.

    The gradient's term is the sum of the Schoenfeld residuals of that time (Schoenfeld, Biometrika 1982;69:239); parameters as of
    `partial_likelihood`.

    Examples
    --------
    >>> [(t, slope.tolist()) for t, _, slope, _ in by_event_time(np.array([[0.0], [1.0]]), np.array([1.0, 2.0]), np.array([1, 0]), np.zeros(1))]
    [(1.0, [-0.5])]
    """
    if not len(x):
        return
    p = x.shape[1]
    order = np.argsort(-times, kind="stable")
    x, times, died = x[order], times[order], events[order].astype(bool)
    score = x @ coefficients
    score = np.maximum(score - score.max(), -600.0)  # only differences count, and none may overflow
    weight = np.exp(score)
    bounds = np.append(np.flatnonzero(np.append(True, np.diff(times) != 0)), len(times))
    risk, first, second = 0.0, np.zeros(p), np.zeros((p, p))
    for start, stop in pairwise(bounds):
        block, heavy = x[start:stop], weight[start:stop]
        risk += heavy.sum()
        first = first + heavy @ block
        second = second + (block * heavy[:, None]).T @ block
        now = died[start:stop]
        count = int(now.sum())
        if not count:
            continue
        tied, tied_weight = block[now], heavy[now]
        share = np.arange(count) / count if ties == "efron" else np.zeros(count)
        below = risk - share * tied_weight.sum()
        mean = (first - share[:, None] * (tied_weight @ tied)) / below[:, None]
        value = float(score[start:stop][now].sum() - np.log(below).sum())
        information = second * (1 / below).sum() - (tied * tied_weight[:, None]).T @ tied * (share / below).sum() - mean.T @ mean
        yield float(times[start]), value, tied.sum(0) - mean.sum(0), information
