"""Whether acting on a probability is worth it: net benefit by the probability from which on one would act."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.metrics.intervals import wilson
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.spec import Counts, Interval, ratio

THRESHOLDS = np.arange(0.05, 0.605, 0.01)
"""The range of a decision curve."""

TOLD = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Probabilities from which on one would act, of which the net benefit is told in figures."""


def net_benefit(truth: NDArray[Any], scores: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.float64]:
    """Return the net benefit of acting where the score reaches each threshold, shape (thresholds,).

    ``TP / n - FP / n t / (1 - t)``. Source: Vickers & Elkin, Med Decis Making 2006;26:565.

    Examples
    --------
    >>> net_benefit(np.array([0, 0, 1, 1]), np.array([.1, .6, .4, .9]), np.array([.5])).tolist()
    [0.0]
    """
    truth, scores, t = np.asarray(truth, bool), np.asarray(scores, np.float64), np.asarray(thresholds, np.float64)
    acted = scores[None] >= t[:, None]
    return ((acted & truth).sum(1) - (acted & ~truth).sum(1) * t / (1 - t)) / max(truth.size, 1)


def benefit_rows(truth: NDArray[Any], scores: NDArray[Any], thresholds: NDArray[Any], counts: Counts) -> NDArray[np.float64]:
    """Return `net_benefit` of each resample, shape (b, thresholds); `counts`, shape (b, n), says how often each case counts.

    Examples
    --------
    >>> benefit_rows(np.array([0, 1]), np.array([.6, .9]), np.array([.5]), np.array([[1., 1], [0, 2]])).tolist()
    [[0.0], [1.0]]
    """
    truth, scores, t = np.asarray(truth, bool), np.asarray(scores, np.float64), np.asarray(thresholds, np.float64)
    worth = np.where(truth[:, None], 1.0, -t / (1 - t)) * (scores[:, None] >= t)
    return ratio(counts @ worth, counts.sum(axis=1, keepdims=True))


def benefit_interval(hits: int, alarms: int, n: int, threshold: float) -> Interval:
    """Return the 95 % interval of a net benefit from counts: so many rightly and so many wrongly acted on, of `n` patients with one case each.

    The two shares have Wilson's limits, and the distances of these from the shares are put together with the correlation of shares of one sample
    (square-and-add). Unlike a Wald interval it keeps a width where nobody is acted on. None for n = 0.

    Sources: Zou & Donner, Stat Med 2008;27:1693 (MOVER); variance of a net benefit: Marsh et al., Biometrics 2020;76:843.

    Examples
    --------
    >>> [round(end, 3) for end in benefit_interval(20, 10, 100, 0.2)], [round(end, 3) for end in benefit_interval(0, 0, 40, 0.2)]
    ([0.103, 0.266], [-0.022, 0.088])
    """
    limits = wilson(hits, n), wilson(alarms, n)
    if limits[0] is None or limits[1] is None:
        return None
    odds = threshold / (1 - threshold)
    true, false = hits / n, alarms / n
    together = -math.sqrt(true * false / ((1 - true) * (1 - false))) if hits and alarms else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one + other * other - 2 * together * one * other, 0.0))

    value = true - odds * false
    low = value - reach(true - limits[0][0], odds * (limits[1][1] - false))
    high = value + reach(limits[0][1] - true, odds * (false - limits[1][0]))
    return max(low, -odds), min(high, 1.0)


def decision_curve(
    truth: NDArray[Any], scores: NDArray[Any], *, patients: Sequence[Any] | None = None, counts: Counts | None = None
) -> dict[str, list[Any]] | None:
    """Return net benefit by threshold of the ``model`` and of acting on ``all``; acting on none is worth 0. None without both outcomes.

    Beside them ``model_low``, ``model_high``, ``all_low`` and ``all_high``, 95 % limits of each threshold by itself: `benefit_interval` where every
    patient has one case, else `resampled_interval` over `counts` of whole patients (None where that says nothing, or without `counts`).

    Parameters
    ----------
    truth, scores : ndarray, shape (n,)
        Outcome and probability of it.
    patients : sequence of length n, optional
        Whose each case is.
    counts : ndarray, shape (b, n), optional
        Resamples of the patients, `bootstrap_counts`.

    Examples
    --------
    >>> curve = decision_curve(np.array([0, 1]), np.array([.1, .9]))
    >>> curve["model"][10], round(curve["all"][10], 3), round(curve["model_low"][10], 3)
    (0.5, 0.412, 0.078)
    """
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    if not 0 < truth.sum() < truth.size:
        return None
    found: dict[str, list[Any]] = {"thresholds": THRESHOLDS.round(2).tolist()}
    people = truth.size if patients is None else len(set(patients))
    for name, own in (("model", scores), ("all", np.ones(truth.size))):
        values = net_benefit(truth, own, THRESHOLDS).tolist()
        if people == truth.size:
            acted = [(int((truth & (own >= t)).sum()), int((~truth & (own >= t)).sum()), float(t)) for t in THRESHOLDS]
            ends = [benefit_interval(hits, alarms, truth.size, t) for hits, alarms, t in acted]
        elif counts is None:
            ends = [None] * len(values)
        else:
            ends = benefit_ends(benefit_rows(truth, own, THRESHOLDS, counts), values, people)
        found |= {name: values, f"{name}_low": [end and end[0] for end in ends], f"{name}_high": [end and end[1] for end in ends]}
    return found


def benefit_ends(rows: NDArray[np.float64], values: Sequence[float], patients: int) -> list[Interval]:
    """Return the limits of each threshold from resamples, `rows` (b, thresholds); None where all resamples are alike: nobody is acted on, or
    everybody is and has the event.
    """
    found = [resampled_interval(own, value, patients, scale="difference") for own, value in zip(rows.T, values, strict=True)]
    return [None if ends is None or ends[1] - ends[0] < 1e-12 else ends for ends in found]
