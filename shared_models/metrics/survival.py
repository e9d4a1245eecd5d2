"""How well a risk score orders patients by survival: Harrell's C, compared within strata, with a bootstrap over patients.

`outcomes` has the shape (n, 3): time, event (1) or last seen (0), stratum. `scores`, shape (n,), are higher for those at higher risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval
from shared_models.metrics.spec import Counts, MetricSpec, Rows, number, ones, ratio

PAIRS_AT_ONCE = 4_000_000
"""Pairs of patients that are compared at once: some 100 MB."""


def harrell_rows(outcomes: NDArray[Any], scores: NDArray[Any], counts: Counts) -> Rows:
    """Return Harrell's C of each resample: the share of comparable pairs in which who had the event first has the higher score.

    A pair is comparable when both are of one stratum and the shorter time ended in an event; at equal times, when one of the two had the
    event and the other was last seen. Equal scores count one half.

    Parameters
    ----------
    outcomes : ndarray, shape (n, 3)
        Time, event, stratum.
    scores : ndarray, shape (n,)
        Risk.
    counts : ndarray, shape (b, n)
        Resampling counts.

    Returns
    -------
    ndarray, shape (b,)
        NaN without a comparable pair. Harrell et al., JAMA 1982;247:2543.
    """
    times, events, strata = outcomes.T
    right, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    step = max(1, PAIRS_AT_ONCE // max(1, len(times)))
    for start in range(0, len(times), step):
        rows = slice(start, start + step)
        later = (times[rows, None] < times) | ((times[rows, None] == times) & (events == 0))
        comparable = later & (events[rows, None] == 1) & (strata[rows, None] == strata)
        won = np.where(scores[rows, None] > scores, 1.0, 0.5 * (scores[rows, None] == scores)) * comparable
        pairs += (counts[:, rows] * (counts @ comparable.T.astype(np.float64))).sum(1)
        right += (counts[:, rows] * (counts @ won.T)).sum(1)
    return ratio(right, pairs)


SURVIVAL_METRICS: dict[str, MetricSpec] = {
    "harrell_c": MetricSpec(
        function=harrell_rows,
        title="Harrell's C",
        better="higher",
        means="How often, of two patients of one hospital, the one who had the event first has the higher risk; 0.5 is chance, 1 is perfect.",
        source="Harrell et al., JAMA 1982;247:2543; pairs within strata",
    ),
}
"""Metrics of survival by name: ``function(outcomes, scores, counts) -> rows``."""


def score_survival(
    outcomes: Any, scores: Any, *, groups: Sequence[Any] | None = None, seed: int = 0, bootstrap: int = 1000
) -> dict[str, dict[str, Any]]:
    """Return each metric of survival with its 95 % interval.

    Parameters
    ----------
    outcomes : array-like, shape (n, 3)
        Time, event, stratum.
    scores : array-like, shape (n,)
        Risk, higher is worse.
    groups : sequence of length n, optional
        The patient of each row: patients are resampled.
    seed, bootstrap : int
        Of the resamples; 0 leaves intervals out.

    Returns
    -------
    dict
        ``{metric: {"value", "low", "high", "n", "events"}}``; None is *undefined*.

    Raises
    ------
    BadInput
        Shapes do not fit, or an outcome or score is not finite.

    Examples
    --------
    >>> score_survival([[1, 1, 0], [2, 1, 0], [3, 0, 0]], [0.9, 0.1, 0.4], bootstrap=0)["harrell_c"]["value"]
    0.6666666666666666
    """
    truth, risk = np.asarray(outcomes, np.float64).reshape(-1, 3), np.asarray(scores, np.float64).reshape(-1)
    if len(truth) != len(risk):
        raise BadInput("every outcome has one score", value=(len(truth), len(risk)))
    if not (np.isfinite(truth).all() and np.isfinite(risk).all() and np.isin(truth[:, 1], (0, 1)).all()):
        raise BadInput("outcomes are finite times with events of 0 or 1, scores are finite")
    counts = np.concatenate([ones(len(risk)), bootstrap_counts(len(risk), bootstrap, groups=groups, seed=seed)])
    table: dict[str, dict[str, Any]] = {}
    for name, spec in SURVIVAL_METRICS.items():
        rows = spec.function(truth, risk, counts)
        value = number(rows[0])
        ends = None if value is None or not bootstrap else resampled_interval(rows[1:], value, patients_of(groups, len(risk)), scale=spec.scale)
        low, high = ends or (None, None)
        table[name] = {"value": value, "low": low, "high": high, "n": len(risk), "events": int(truth[:, 1].sum())}
    return table
