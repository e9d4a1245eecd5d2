"""Whether a probability of 70 % comes true in 70 % of cases: Brier score, log-loss, ECE, reliability, slope and intercept, temperature."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import wilson
from shared_models.metrics.spec import Counts, Rows, number, ones, ratio


def brier(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the Brier score of each resample; 0 is best.

    Two classes: the mean of ``(P(class 1) - truth)^2``, from 0 to 1. More classes: the mean over cases of the *sum* over classes of squared
    differences, from 0 to 2 (Brier, Mon Weather Rev 1950;78:1). The first is half of the second, as is customary for two classes.

    Examples
    --------
    >>> scores = np.array([.1, .4, .35, .8, .4, .2])
    >>> brier(np.array([0, 0, 1, 1, 1, 0]), np.stack([1 - scores, scores], 1), np.ones((1, 6))).round(6)
    array([0.172083])
    """
    cases, k = probabilities.shape
    truth = np.zeros((cases, k))
    truth[np.arange(cases), labels] = 1.0
    return ratio(counts @ ((probabilities - truth) ** 2).sum(axis=1), counts.sum(axis=1)) * (0.5 if k == 2 else 1.0)


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts) -> Rows:
    """Return the mean of ``-ln P(true class)``; 0 is best. Probabilities are clipped at the float64 epsilon, so the worst case costs 36.

    Examples
    --------
    >>> log_loss(np.array([0]), np.array([[.5, .5]]), np.ones((1, 1))).round(4)
    array([0.6931])
    """
    true = probabilities[np.arange(len(labels)), labels]
    return ratio(counts @ -np.log(np.clip(true, np.finfo(np.float64).eps, 1.0)), counts.sum(axis=1))


def confidence_and_truth(labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability whose calibration is judged, and whether it came true, each of shape (n,).

    Two classes: P(class 1) and whether the case is of class 1. More classes: the probability of the most probable class and whether it is
    the true one (Guo et al., ICML 2017).
    """
    if probabilities.shape[1] == 2:
        return np.asarray(probabilities[:, 1], np.float64), (labels == 1).astype(np.float64)
    top = probabilities.argmax(axis=1)
    return np.asarray(probabilities[np.arange(len(labels)), top], np.float64), (top == labels).astype(np.float64)


def bins_of(cases: int, most: int) -> int:
    """Return how many bins of equal mass so many cases fill: at least 10 in each, at least 2 bins and no more than `most`.

    Examples
    --------
    >>> bins_of(40, 10), bins_of(1000, 10), bins_of(3, 10)
    (4, 10, 2)
    """
    return max(2, min(most, cases // 10))


def bin_of(confidence: NDArray[np.float64], bins: int, equal_mass: bool) -> NDArray[np.int64]:
    """Return the bin of each case: equal-width ones are closed on the left, equal-mass ones hold nearly equally many (ties stay together)."""
    if not equal_mass:
        return np.minimum((confidence * bins).astype(np.int64), bins - 1)
    order = np.argsort(confidence, kind="stable")
    bin_of_rank = np.arange(confidence.size) * bins // max(confidence.size, 1)
    first = np.searchsorted(confidence[order], confidence, "left")
    return bin_of_rank[first]


def _gaps(confidence: NDArray[np.float64], truth: NDArray[np.float64], counts: Counts, bins: int, equal_mass: bool) -> Rows:
    member = np.zeros((confidence.size, bins))
    member[np.arange(confidence.size), bin_of(confidence, bins, equal_mass)] = (confidence - truth) if confidence.size else 0.0
    return ratio(np.abs(counts @ member).sum(axis=1), counts.sum(axis=1))


def ece(
    labels: NDArray[Any], probabilities: NDArray[Any], counts: Counts, *, bins: Annotated[int, Field(ge=2, le=100)] = 10, equal_mass: bool = True
) -> Rows:
    """Return the expected calibration error: the mean gap between confidence and truth over bins, weighted by their cases; 0 is best.

    Bins are laid once over the sample and kept in all resamples. With few cases there are fewer bins, so that one of equal mass holds at least 10
    (never fewer than 2 bins): small bins inflate the error (Kumar et al., NeurIPS 2019), and any number of them does somewhat: `calibration_error`
    takes that off. What is judged: see `confidence_and_truth`.
    """
    confidence, truth = confidence_and_truth(labels, probabilities)
    return _gaps(confidence, truth, counts, bins_of(confidence.size, bins) if equal_mass else bins, equal_mass)


def expected_calibration_error(truth: NDArray[Any], scores: NDArray[Any], *, bins: int = 15, equal_mass: bool = False) -> float | None:
    """Return the ECE of probabilities of an event; None without cases. Exactly `bins` bins.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([0, 0, 1, 1, 1, 0]), np.array([.1, .4, .35, .8, .4, .2]), bins=5), 6)
    0.158333
    """
    return number(_gaps(np.asarray(scores, np.float64), np.asarray(truth, np.float64), ones(len(scores)), bins, equal_mass)[0])


def reliability_table(confidence: NDArray[Any], truth: NDArray[Any], *, bins: int = 10, equal_mass: bool = False) -> list[dict[str, Any]]:
    """Return one row a filled bin, lowest confidence first.

    A row holds ``n``, the mean ``confidence``, the share that came ``true``, and Wilson's 95 % interval of that share, ``low`` to ``high``.

    Examples
    --------
    >>> reliability_table(np.array([.1, .2, .9]), np.array([0, 1, 1]), bins=2)[0]
    {'n': 2, 'confidence': 0.15, 'true': 0.5, 'low': 0.094531, 'high': 0.905469}
    """
    confidence, truth = np.asarray(confidence, np.float64), np.asarray(truth, np.float64)
    where = bin_of(confidence, bins, equal_mass)
    rows = []
    for b in np.unique(where):
        stated, came = confidence[where == b], truth[where == b]
        low, high = wilson(int(came.sum()), came.size) or (0.0, 1.0)
        values = {"confidence": stated.mean(), "true": came.mean(), "low": low, "high": high}
        rows.append({"n": int(came.size), **{name: round(float(value), 6) for name, value in values.items()}})
    return rows


def calibration_line(truth: NDArray[Any], scores: NDArray[Any]) -> dict[str, float] | None:
    """Return calibration ``slope`` and ``intercept`` (calibration in the large) of probabilities of an event.

    The slope is b in the logistic regression ``logit P(event) = a + b logit(p)``; the intercept is a in ``logit P(event) = a + logit(p)``.
    Ideal: slope 1, intercept 0; a slope below 1 means over-confident. Source: Van Calster et al., BMC Med 2019;17:230.

    Returns
    -------
    dict or None
        None where the fit does not exist: one outcome only, equal scores, or perfectly separated ones.

    Examples
    --------
    >>> p = np.repeat([.2, .8], 10); y = np.concatenate([np.arange(10) < 2, np.arange(10) < 8])
    >>> {k: abs(round(v, 6)) for k, v in calibration_line(y, p).items()}
    {'slope': 1.0, 'intercept': 0.0}
    """
    truth = np.asarray(truth, np.float64)
    p = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))
    if not 0 < truth.sum() < truth.size or np.ptp(logit) == 0:
        return None
    if logit[truth == 1].min() >= logit[truth == 0].max() or logit[truth == 1].max() <= logit[truth == 0].min():
        return None  # separated: the likelihood rises for ever
    both = _newton(np.stack([np.ones_like(logit), logit], axis=1), np.zeros_like(logit), truth)
    large = _newton(np.ones((logit.size, 1)), logit, truth)
    return None if both is None or large is None else {"slope": float(both[1]), "intercept": float(large[0])}


def weighted_line(truth: NDArray[Any], logit: NDArray[Any], weights: NDArray[Any]) -> tuple[float, float] | None:
    """Return intercept and slope of the logistic regression of weighted outcomes on a logit, each of shape (n,); None where none exists.

    Examples
    --------
    >>> a, b = weighted_line(np.array([0.0, 1, 0, 1]), np.log([0.25, 0.25, 4, 4]), np.array([8.0, 2, 2, 8]))
    >>> abs(round(a, 6)), round(b, 6)
    (0.0, 1.0)
    """
    kept = np.asarray(weights) > 0
    y, x, w = np.asarray(truth, np.float64)[kept], np.asarray(logit, np.float64)[kept], np.asarray(weights, np.float64)[kept]
    if not 0 < y.sum() < y.size or np.ptp(x) == 0 or x[y == 1].min() >= x[y == 0].max() or x[y == 1].max() <= x[y == 0].min():
        return None
    found = _newton(np.stack([np.ones_like(x), x], axis=1), np.zeros_like(x), y, w)
    return None if found is None else (float(found[0]), float(found[1]))


def _newton(
    design: NDArray[np.float64], offset: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64] | float = 1.0
) -> NDArray[np.float64] | None:
    """Fit a logistic regression by damped Newton steps; None if it does not settle in 100."""
    beta, weights = np.zeros(design.shape[1]), np.broadcast_to(weights, truth.shape)

    def loss(at: NDArray[np.float64]) -> float:
        eta = design @ at + offset
        return float(weights @ (np.logaddexp(0.0, eta) - truth * eta))

    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta + offset, -500, 500)))
        gradient = design.T @ (weights * (p - truth))
        if np.abs(gradient).max() < 1e-9 * weights.sum():
            return beta
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        while loss(beta - step) > loss(beta) + 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2.0
        beta = beta - step
    return None


def with_temperature(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Return ``softmax(ln p / temperature)``: above 1 the probabilities become milder, the ranking of classes stays.

    Examples
    --------
    >>> with_temperature(np.array([[.8, .2]]), 2.0).round(3)
    array([[0.667, 0.333]])
    """
    if not temperature > 0:
        raise BadInput("a temperature must be positive", value=temperature)
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), np.finfo(np.float64).eps, 1.0)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(labels: NDArray[Any], probabilities: NDArray[Any]) -> float | None:
    """Return the temperature in 0.05 to 20 that minimises the log-loss of validation cases; None without cases.

    Source: Guo et al., ICML 2017. The log-loss is convex in 1 / temperature, so one bounded search finds its minimum.

    Examples
    --------
    >>> p = np.array([[.9, .1]] * 4)
    >>> round(fit_temperature(np.array([0, 0, 0, 1]), p), 2)
    2.0
    """
    from scipy.optimize import minimize_scalar

    labels = np.asarray(labels)
    if not labels.size:
        return None
    found: Any = minimize_scalar(
        lambda inverse: float(log_loss(labels, with_temperature(probabilities, 1.0 / inverse), ones(labels.size))[0]),
        bounds=(0.05, 20.0),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(1.0 / found.x)
