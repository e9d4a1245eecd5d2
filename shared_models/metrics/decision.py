"""Whether acting on a probability is worth it: net benefit by the probability from which on one would act."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(0.05, 0.605, 0.01)
"""The range of a decision curve."""


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


def decision_curve(truth: NDArray[Any], scores: NDArray[Any]) -> dict[str, list[float]] | None:
    """Return net benefit by threshold of the ``model`` and of acting on ``all``; acting on none is worth 0. None without both outcomes.

    Examples
    --------
    >>> curve = decision_curve(np.array([0, 1]), np.array([.1, .9]))
    >>> curve["model"][10], round(curve["all"][10], 3)
    (0.5, 0.412)
    """
    truth = np.asarray(truth, bool)
    if not 0 < truth.sum() < truth.size:
        return None
    share = float(truth.mean())
    everybody = share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)
    return {"thresholds": THRESHOLDS.round(2).tolist(), "model": net_benefit(truth, scores, THRESHOLDS).tolist(), "all": everybody.tolist()}
