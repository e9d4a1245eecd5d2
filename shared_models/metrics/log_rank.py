"""Whether two groups of patients live equally long: the log-rank test, within strata."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput


def log_rank(outcomes: Any, group: Any) -> dict[str, float | None]:
    """Compare the survival of two groups.

    At each time of an event the number of events expected in the second group is that of equal hazards among those still at risk; its variance
    is hypergeometric. Sums run over times and strata: ``chi2 = (observed - expected)^2 / variance`` with one degree of freedom.

    Parameters
    ----------
    outcomes : array-like, shape (n, 3)
        Time, event (1) or last seen (0), stratum.
    group : array-like of bool, shape (n,)
        The second group.

    Returns
    -------
    dict
        ``observed`` and ``expected`` events of the second group, ``chi2`` and ``p``; the last two are None where nothing can be told (one group
        is empty, or no event has both groups at risk).

    Raises
    ------
    BadInput
        Shapes do not fit, or an outcome is not finite.

    Source: Mantel, Evaluation of survival data and two new rank order statistics, Cancer Chemother Rep 1966;50:163.

    Examples
    --------
    >>> found = log_rank([[t, 1, 0] for t in (1, 2, 3, 4, 5, 6)], [True, True, True, False, False, False])
    >>> found["observed"], round(found["expected"], 3), round(found["p"], 4)
    (3.0, 1.15, 0.0246)
    """
    truth, second = np.asarray(outcomes, np.float64).reshape(-1, 3), np.asarray(group, bool).reshape(-1)
    if len(truth) != len(second):
        raise BadInput("every outcome has one group", value=(len(truth), len(second)))
    if not np.isfinite(truth).all() or not np.isin(truth[:, 1], (0, 1)).all():
        raise BadInput("outcomes are finite times with events of 0 or 1")
    parts = [_of_stratum(truth[where, 0], truth[where, 1] == 1, second[where]) for where in (truth[:, 2] == s for s in np.unique(truth[:, 2]))]
    observed, expected, variance = (float(sum(part[k] for part in parts)) for k in range(3))
    if variance <= 0:
        return {"observed": observed, "expected": expected, "chi2": None, "p": None}
    from scipy.special import erfc

    chi2 = (observed - expected) ** 2 / variance
    return {"observed": observed, "expected": expected, "chi2": chi2, "p": float(erfc(np.sqrt(chi2 / 2)))}


def _of_stratum(times: NDArray[Any], events: NDArray[Any], second: NDArray[Any]) -> tuple[float, float, float]:
    """Return observed and expected events of the second group, and the variance."""
    when = np.unique(times[events])
    at_risk = (times[:, None] >= when).astype(float)
    dying = (times[:, None] == when) & events[:, None]
    n, n2, d = at_risk.sum(0), at_risk[second].sum(0), dying.sum(0).astype(float)
    share = n2 / n
    variance = d * share * (1 - share) * np.where(n > 1, (n - d) / np.maximum(n - 1, 1), 0.0)
    return float(dying[second].sum()), float((d * share).sum()), float(variance.sum())
