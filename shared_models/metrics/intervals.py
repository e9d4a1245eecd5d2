"""How sure a number is: intervals for shares and for AUROC, and the patient-cluster bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.spec import Counts, Interval


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def wilson(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of the share ``hits / n``, None for n = 0.

    Source: Wilson, J Am Stat Assoc 1927;22:209.

    Examples
    --------
    >>> [round(end, 5) for end in wilson(24, 29)]
    [0.65452, 0.92402]
    """
    _check_share(hits, n)
    if n == 0:
        return None
    z, share = _z(confidence), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the exact (conservative) binomial interval of ``hits / n``, None for n = 0.

    Source: Clopper & Pearson, Biometrika 1934;26:404, by quantiles of the beta distribution.

    Examples
    --------
    >>> [round(end, 3) for end in clopper_pearson(24, 29)]
    [0.642, 0.942]
    """
    from scipy.special import betaincinv

    _check_share(hits, n)
    if n == 0:
        return None
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1.0 - tail))
    return low, high


def _check_share(hits: int, n: int) -> None:
    if not 0 <= hits <= n:
        raise BadInput("a share needs 0 <= hits <= n", value=(hits, n))


def newcombe_auroc(value: float, positives: int, negatives: int, confidence: float = 0.95) -> Interval:
    """Return an interval of an AUROC that stays inside 0 to 1 and keeps a width at 0 and 1, where DeLong and the bootstrap collapse.

    The ends are the theta with ``|theta - value| = z sqrt(V(theta))``,
    ``V = theta (1 - theta) (1 + s ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (positives negatives)``,
    ``s = (positives + negatives) / 2 - 1``.

    Source: Newcombe, Stat Med 2006;25:559, method 5.

    Examples
    --------
    >>> [round(end, 3) for end in newcombe_auroc(1.0, 10, 10)]
    [0.8, 1.0]
    """
    if positives < 1 or negatives < 1:
        return None
    z, s = _z(confidence), (positives + negatives) / 2.0 - 1.0

    def outside(theta: float) -> bool:
        spread = theta * (1 - theta) * (1 + s * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (positives * negatives)
        return abs(theta - value) > z * math.sqrt(spread)

    ends = []
    for far in (0.0, 1.0):
        near = value  # the set of theta not rejected is an interval around `value`: bisect from it towards each end of the scale
        if near == far:
            ends.append(far)
            continue
        # At 0 and 1 the spread is 0, so `far` is rejected whenever it differs from `value`.
        for _ in range(60):
            middle = (near + far) / 2.0
            near, far = (near, middle) if outside(middle) else (middle, far)
        ends.append((near + far) / 2.0)
    return ends[0], ends[1]


def placements(truth: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return DeLong's structural components: for each positive the share of negatives below it, for each negative the share of positives above.

    Ties count one half. Shapes (positives,) and (negatives,). Ranks instead of all pairs (Sun & Xu, IEEE Signal Process Lett 2014;21:1389).
    """
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    above, below = np.sort(scores[truth]), np.sort(scores[~truth])
    first = (np.searchsorted(below, scores[truth], "left") + np.searchsorted(below, scores[truth], "right")) / (2.0 * max(below.size, 1))
    second = 1.0 - (np.searchsorted(above, scores[~truth], "left") + np.searchsorted(above, scores[~truth], "right")) / (2.0 * max(above.size, 1))
    return first, second


def delong_variance(truth: NDArray[Any], scores: NDArray[Any]) -> float | None:
    """Return the variance of an AUROC; None with fewer than 2 positives or 2 negatives.

    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 1988;44:837 (sample variances with n - 1).

    Examples
    --------
    >>> round(delong_variance(np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2])), 7)
    0.037037
    """
    first, second = placements(truth, scores)
    if first.size < 2 or second.size < 2:
        return None
    return float(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)


def delong_interval(truth: NDArray[Any], scores: NDArray[Any], confidence: float = 0.95) -> Interval:
    """Return DeLong's interval of an AUROC on the logit scale; None with fewer than 2 positives or negatives, or where nothing varies.

    At 0 and 1 the variance is 0 and says nothing: use `newcombe_auroc` there. Sources: DeLong et al., Biometrics 1988;44:837; the logit: Pepe, The
    Statistical Evaluation of Medical Tests, 2003, section 5.2.

    Examples
    --------
    >>> [round(end, 3) for end in delong_interval(np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2]))]
    [0.249, 0.987]
    """
    variance, value = delong_variance(truth, scores), float(placements(truth, scores)[0].mean()) if np.any(truth) else 0.0
    if not variance or not 0 < value < 1:
        return None
    middle, half = math.log(value / (1 - value)), _z(confidence) * math.sqrt(variance) / (value * (1 - value))
    return 1 / (1 + math.exp(half - middle)), 1 / (1 + math.exp(-half - middle))


def delong_test(truth: NDArray[Any], scores_a: NDArray[Any], scores_b: NDArray[Any]) -> dict[str, float] | None:
    """Compare two AUROCs on the same independent cases.

    Returns
    -------
    dict or None
        ``difference`` (a - b), ``variance``, ``z`` and two-sided ``p``. None with fewer than 2 positives or negatives, or where the paired
        differences do not vary although the areas differ (use the bootstrap ``compare``). Equal placements give z = 0, p = 1.

    Examples
    --------
    >>> truth, a = np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2])
    >>> delong_test(truth, a, a)["p"]
    1.0
    """
    (first_a, second_a), (first_b, second_b) = placements(truth, scores_a), placements(truth, scores_b)
    if first_a.size < 2 or second_a.size < 2:
        return None
    first, second = first_a - first_b, second_a - second_b
    # var(a) + var(b) - 2 cov(a, b) is the variance of the paired differences.
    variance = float(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)
    difference = float(first.mean())
    if variance < 1e-18:
        return None if abs(difference) > 1e-9 else {"difference": difference, "variance": 0.0, "z": 0.0, "p": 1.0}
    z = difference / math.sqrt(variance)
    return {"difference": difference, "variance": variance, "z": z, "p": math.erfc(abs(z) / math.sqrt(2.0))}


def bootstrap_counts(cases: int, resamples: int, *, groups: Sequence[Any] | NDArray[Any] | None = None, seed: int = 0) -> Counts:
    """Draw patients with replacement and return how often each case counts, shape (resamples, cases).

    All cases of a patient are drawn together, so that repeated scans do not make an interval too narrow.

    Parameters
    ----------
    cases : int
        Number of cases n.
    resamples : int
        Number of resamples b.
    groups : sequence of length n, optional
        Which patient a case belongs to; each case is its own patient by default.
    seed : int
        The same seed gives the same counts.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8; clusters: Field & Welsh, J R Stat Soc B 2007;69:369.

    Examples
    --------
    >>> bootstrap_counts(3, 2, groups=["a", "a", "b"], seed=1)
    array([[1., 1., 1.],
           [0., 0., 2.]])
    """
    if groups is None:
        patient, patients = np.arange(cases), cases
    else:
        if len(groups) != cases:
            raise BadInput("groups must name the patient of each case", value=(len(groups), cases))
        names, patient = np.unique(np.asarray(groups), return_inverse=True)
        patients = len(names)
    if patients == 0:
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).integers(0, patients, (resamples, patients))
    drawn += np.arange(resamples)[:, None] * patients
    counts = np.bincount(drawn.ravel(), minlength=resamples * patients).reshape(resamples, patients)
    return counts[:, patient].astype(np.float64)
