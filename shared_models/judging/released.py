"""Figures of a class from what sites may release: histograms of the probability. Each is an interval that holds the figure of the patients.

A site's counts are of groups of cells (`shared_models/calibration/score_histograms`); the bounds are those of `released_bounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.calibration.score_histograms import LOW, POSITIVE, REST
from shared_models.judging.released_bounds import (
    BINS,
    Counts,
    Histogram,
    auprc_bounds,
    auroc_bounds,
    benefit_bounds,
    benefit_sampled,
    brier_bounds,
    ece_bounds,
    intercept_bounds,
    reliability_bounds,
    sensitivity_bounds,
    solved_intercept,
)
from shared_models.judging.released_slope import slope_bounds, slope_estimate
from shared_models.judging.standing import LEAST
from shared_models.metrics.calibration import calibration_line
from shared_models.metrics.decision import TOLD, net_benefit
from shared_models.metrics.ranking import auroc, average_precision, sensitivity_at

FIGURES = ("auroc", "auprc", "sensitivity", "brier", "slope", "intercept", "ece")
"""In the order in which they are shown."""


def histograms(cells: NDArray[Any], patients: float) -> list[Histogram]:
    """Return the histogram of each class from the sums that a run released: `cells` (classes, 2, 2, cells) of so many patients."""
    return [Histogram(of[REST], of[POSITIVE], round(patients - of[:, LOW].sum())) for of in np.asarray(cells, np.float64)]


def figures_of(found: Histogram, *, specificity: float = 0.9) -> dict[str, Any]:
    """Return ``positives``, ``negatives``, ``missing``, and by figure ``value`` with bounds ``low`` and ``high``; None is *undefined*.

    ``auroc``, ``auprc``, ``sensitivity`` at `specificity`, ``brier``, ``slope``, ``intercept``, ``ece`` (ten bins of equal width), and
    ``net_benefit`` by threshold, with ``sampled_low`` and ``sampled_high`` of `benefit_sampled`. The value takes half of each group's patients
    as placed low and half as placed high, in the middle of their cells. A bound of the slope is None where none is certain.

    Examples
    --------
    >>> rest, positives = np.zeros((2, 10)), np.zeros((2, 10))
    >>> rest[:, 2], positives[:, 2], positives[:, 8] = 20, 5, 15
    >>> found = figures_of(Histogram(rest, positives))["auroc"]
    >>> found["low"], found["value"], found["high"]
    (0.75, 0.875, 1.0)
    """
    told = {"positives": round(found.positives[LOW].sum()), "negatives": round(found.rest[LOW].sum()), "missing": found.missing}
    if not told["positives"] or not told["negatives"]:
        nothing = dict.fromkeys(FIGURES, _cell(None, (0.0, 0.0)))
        return {**told, **nothing, "net_benefit": {}, "reliability": []}
    truth, scores, weights = _middle(found)
    bounds = {
        "auroc": auroc_bounds(found),
        "auprc": auprc_bounds(found),
        "sensitivity": sensitivity_bounds(found, specificity),
        "brier": brier_bounds(found),
        "intercept": intercept_bounds(found),
        "ece": ece_bounds(found),
    }
    values = {
        "auroc": _weighted_auroc(truth, weights),
        "auprc": _weighted_precision(truth, weights),
        "sensitivity": _weighted_sensitivity(truth, weights, specificity),
        "brier": float(weights @ (scores - truth) ** 2 / weights.sum()),
        "intercept": solved_intercept(scores, weights, float(weights @ truth)),
        "ece": _weighted_ece(truth, scores, weights),
    }
    cells = {name: _cell(values[name], ends) for name, ends in bounds.items()}
    slope = slope_estimate(found)
    low, high = slope_bounds(found, slope)
    cells["slope"] = {"value": slope, "low": low, "high": high}
    benefit = {f"{t:g}": _benefit(found, _weighted_benefit(truth, scores, weights, t), t) for t in TOLD}
    return {**told, **cells, "net_benefit": benefit, "reliability": reliability_bounds(found)}


def exact_figures(truth: NDArray[Any], scores: NDArray[Any], *, specificity: float = 0.9) -> dict[str, Any]:
    """Return the same figures of patients whose scores are known; where `figures_of` can be checked they stand beside it."""
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    line = solved_intercept(scores, np.ones(len(scores)), float(truth.sum())) if 0 < truth.sum() < truth.size else None
    return {
        "auroc": auroc(truth, scores),
        "auprc": average_precision(truth, scores),
        "sensitivity": sensitivity_at(truth, scores, specificity=specificity),
        "brier": float(((scores - truth) ** 2).mean()) if truth.size else None,
        "intercept": line,
        "slope": (calibration_line(truth, scores) or {}).get("slope"),
        "ece": _weighted_ece(truth.astype(float), scores, np.ones(len(scores))) if truth.size else None,
        "net_benefit": {f"{t:g}": float(net_benefit(truth, scores, np.array([t]))[0]) for t in TOLD} if truth.size else {},
    }


def released_table(cells: NDArray[Any], patients: float, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return `figures_of` every class by name."""
    return {name: figures_of(one) for name, one in zip(classes, histograms(cells, patients), strict=True)}


def released_sites(cells: Mapping[str, tuple[NDArray[Any], float]], classes: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return `released_table` of each site by name, from its own counts and number of patients.

    A figure of a class with fewer than ten patients with it, or without it, counted at a site is withheld: the row has ``why``.
    """
    return {site: {name: _enough(row) for name, row in released_table(own, patients, classes).items()} for site, (own, patients) in cells.items()}


def _enough(row: dict[str, Any]) -> dict[str, Any]:
    fewer = min(row["positives"], row["negatives"])
    if fewer >= LEAST:
        return {**row, "why": ""}
    counts = {name: row[name] for name in ("positives", "negatives", "missing")}
    nothing = dict.fromkeys(FIGURES, _cell(None, (0.0, 0.0)))
    return {
        **counts,
        **nothing,
        "net_benefit": {},
        "reliability": [],
        "why": f"{row['positives']} with it and {row['negatives']} without: {LEAST} of each are needed",
    }


def beside(table: Mapping[str, dict[str, Any]], labels: Any, probabilities: Any, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a released table with the ``exact`` figures of the same patients."""
    y, p = np.asarray(labels, int), np.asarray(probabilities, np.float64).reshape(-1, len(classes))
    return {name: {**table[name], "exact": exact_figures(y == c, p[:, c])} for c, name in enumerate(classes)}


def _cell(value: float | None, ends: tuple[float, float]) -> dict[str, float | None]:
    if value is None:
        return {"value": None, "low": None, "high": None}
    low, high = ends
    return {"value": float(min(max(value, low), high)), "low": float(low), "high": float(high)}


def _benefit(found: Histogram, value: float, threshold: float) -> dict[str, float | None]:
    low, high = benefit_sampled(found, threshold)
    return {**_cell(value, benefit_bounds(found, threshold)), "sampled_low": low, "sampled_high": high}


def _middle(h: Histogram) -> tuple[Counts, Counts, Counts]:
    centres = (h.edges[:-1] + h.edges[1:]) / 2
    weights = np.concatenate([h.rest.mean(0), h.positives.mean(0)])
    return np.repeat([0.0, 1.0], len(centres)), np.tile(centres, 2), weights


def _by_cell(truth: Counts, weights: Counts) -> tuple[Counts, Counts]:
    half = len(truth) // 2
    return weights[:half], weights[half:]


def _weighted_auroc(truth: Counts, weights: Counts) -> float:
    rest, positives = _by_cell(truth, weights)
    return float(positives @ (np.cumsum(rest) - rest / 2) / (positives.sum() * rest.sum()))


def _weighted_precision(truth: Counts, weights: Counts) -> float:
    rest, positives = (np.cumsum(row[::-1]) for row in _by_cell(truth, weights))
    steps = _by_cell(truth, weights)[1][::-1]
    return float((steps * positives / np.maximum(positives + rest, 1e-300)).sum() / positives[-1])


def _weighted_sensitivity(truth: Counts, weights: Counts, specificity: float) -> float:
    rest, positives = (np.cumsum(row[::-1]) for row in _by_cell(truth, weights))
    return float(positives[rest <= (1 - specificity) * rest[-1] + 1e-9].max(initial=0.0) / positives[-1])


def _weighted_ece(truth: Counts, scores: Counts, weights: Counts) -> float:
    bins = np.clip(np.searchsorted(np.arange(BINS + 1) / BINS, scores, side="left") - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (scores - truth), minlength=BINS)).sum() / weights.sum())


def _weighted_benefit(truth: Counts, scores: Counts, weights: Counts, threshold: float) -> float:
    acted = weights * (scores >= threshold)
    return float((acted @ truth - acted @ (1 - truth) * threshold / (1 - threshold)) / weights.sum())
