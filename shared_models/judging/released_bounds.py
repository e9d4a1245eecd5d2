"""Bounds of figures from histograms whose counts are placed low and high: the figures of the arrangements that serve a class best and worst.

Of the patients at or below an edge at least those placed high and at most those placed low are there; within a cell nothing is known. `missing`
patients are known in number alone and may have the class or not, with any probability. For the average precision, where no one arrangement is the
best, each positive's precision is bounded for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.calibration.score_histograms import HIGH, LOW
from shared_models.core.errors import BadInput
from shared_models.metrics.decision import benefit_interval
from shared_models.metrics.intervals import wilson

BINS = 10
"""Of equal width, for reliability and its expected error."""
CLIP = 1e-6

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """One class at one or several sites.

    Parameters
    ----------
    rest, positives : ndarray, shape (2, cells)
        Patients without and with the class by cell of its probability, placed low and high.
    missing : int
        Patients beside those, of whom nothing is known.
    """

    rest: Counts
    positives: Counts
    missing: int = 0

    @property
    def edges(self) -> Counts:
        """Of the cells, which are equal and reach from above their lower edge up to the upper one."""
        cells = self.rest.shape[1]
        return np.arange(cells + 1) / cells  # correctly rounded: the edges of the bins are among them


def _reach(counts: Counts) -> tuple[Counts, Counts]:
    """Return cumulative bounds of a row by upper edge of the cells: the fewest and the most patients at or below it."""
    return np.cumsum(counts[HIGH]), np.cumsum(counts[LOW])


# The best arrangement has the rest placed low, at the lower edge of their cells, and the positives placed high, at the upper edge: within a cell a
# positive then lies above the rest. The worst one is the other way round.


def auroc_bounds(h: Histogram) -> tuple[float, float]:
    """Return the lowest and the highest that the AUROC of the patients can be."""
    n, m, u = h.positives[LOW].sum(), h.rest[LOW].sum(), h.missing
    most = float(h.positives[HIGH] @ np.cumsum(h.rest[LOW]))
    least = float(h.positives[LOW] @ (np.cumsum(h.rest[HIGH]) - h.rest[HIGH]))
    a = np.arange(u + 1)  # so many of the missing have the class
    pairs = (n + a) * (m + u - a)
    best = (most + a * (m + u - a) + n * (u - a)) / pairs
    return float((least / pairs).min()), float(best.max())


def auprc_bounds(h: Histogram) -> tuple[float, float]:
    """Return the lowest and the highest that the average precision of the patients can be."""
    n, u = round(h.positives[LOW].sum()), h.missing
    rank = np.arange(1, n + 1)
    above_most, above_least = (np.cumsum(row[::-1])[::-1] for row in (h.positives[HIGH], h.positives[LOW]))
    # Positive number `rank` from the top lies in one of the cells lowest..highest.
    highest = len(above_most) - 1 - np.searchsorted(above_most[::-1], rank - 0.5)
    lowest = len(above_least) - 1 - np.searchsorted(above_least[::-1], rank - 0.5)
    false_most = np.cumsum(h.rest[HIGH][::-1])[::-1]
    false_least = np.cumsum(h.rest[LOW][::-1])[::-1] - h.rest[LOW]
    worst = rank / (rank + false_most[lowest] + u)
    true_most = above_most + u
    precision = np.where(true_most > 0, true_most / np.maximum(true_most + false_least, 1e-300), 0.0)
    best = np.array([precision[low : high + 1].max() for low, high in zip(lowest, highest, strict=True)])
    return float(worst.sum() / (n + u)), float((best.sum() + u) / (n + u))


def sensitivity_bounds(h: Histogram, specificity: float) -> tuple[float, float]:
    """Return the lowest and the highest that the sensitivity at a specificity of the patients can be."""
    n, m, u = h.positives[LOW].sum(), h.rest[LOW].sum(), h.missing

    def above(row: Counts) -> Counts:
        return np.append(np.cumsum(row[::-1])[::-1], 0.0)

    allowed = (1 - specificity) * (m + u) + 1e-9
    best = above(h.positives[HIGH])[:-1][above(h.rest[LOW])[1:] <= allowed].max(initial=0.0)
    worst = above(h.positives[LOW])[above(h.rest[HIGH]) + u <= allowed].max(initial=0.0)
    return float(worst / (n + u)), float((best + u) / (n + u))


def brier_bounds(h: Histogram) -> tuple[float, float]:
    """Return the lowest and the highest that the Brier score of the patients can be."""
    low, high = h.edges[:-1], h.edges[1:]
    total = h.rest[LOW].sum() + h.positives[LOW].sum() + h.missing
    best = h.rest[LOW] @ low**2 + h.positives[HIGH] @ (1 - high) ** 2
    worst = h.rest[HIGH] @ high**2 + h.positives[LOW] @ (1 - low) ** 2
    return float(best / total), float((worst + h.missing) / total)


def acted_bounds(h: Histogram, threshold: float) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Return how many patients are rightly and wrongly acted on from `threshold` on in the worst and in the best case, and how many there are.

    Returns
    -------
    tuple
        ``(hits, alarms)`` at worst, the same at best, all patients.
    """
    total = round(h.rest[LOW].sum() + h.positives[LOW].sum()) + h.missing
    surely, perhaps = h.edges[:-1] >= threshold, h.edges[1:] >= threshold - 1e-12
    worst = round(h.positives[LOW][surely].sum()), round(h.rest[HIGH][perhaps].sum()) + h.missing
    best = round(h.positives[HIGH][perhaps].sum()) + h.missing, round(h.rest[LOW][surely].sum())
    return worst, best, total


def benefit_bounds(h: Histogram, threshold: float) -> tuple[float, float]:
    """Return the lowest and the highest that the net benefit of acting from `threshold` on of the patients can be."""
    worst, best, total = acted_bounds(h, threshold)
    odds = threshold / (1 - threshold)
    return (worst[0] - odds * worst[1]) / total, (best[0] - odds * best[1]) / total


def benefit_sampled(h: Histogram, threshold: float) -> tuple[float, float]:
    """Return limits that hold the 95 % interval (`benefit_interval`) of the net benefit whatever the patients' own counts are.

    Its ends rise with every patient rightly acted on and fall with every one wrongly: the lower end is that of the worst case, the upper that of the
    best.
    """
    worst, best, total = acted_bounds(h, threshold)
    low, high = (benefit_interval(hits, alarms, total, threshold) for hits, alarms in (worst, best))
    if low is None or high is None:
        raise BadInput("figures are of at least one patient", value=total)
    return low[0], high[1]


def intercept_bounds(h: Histogram) -> tuple[float, float]:
    """Return the lowest and the highest that the calibration intercept of the patients can be."""
    # The larger the probabilities, the smaller the intercept.
    n, u = h.positives[LOW].sum(), h.missing
    ends = []
    for place, edge, extra, events in ((HIGH, h.edges[1:], 1.0, n), (LOW, h.edges[:-1], 0.0, n + u)):
        scores, weights = np.append(edge, extra), np.append(h.rest[place] + h.positives[place], u)
        solved = solved_intercept(scores, weights, float(events))
        ends.append(solved if solved is not None else (np.inf if extra == 0.0 else -np.inf))
    return float(ends[0]), float(ends[1])


def ece_bounds(h: Histogram) -> tuple[float, float]:
    """Return the lowest and the highest that the expected calibration error over `BINS` of equal width of the patients can be."""
    total = h.rest[LOW].sum() + h.positives[LOW].sum()
    rest = _sums(*_reach(h.rest), h.edges)
    # Seen from the other end a positive's distance from 1 is what its probability was: cells and placements turn round.
    least, most = _sums(*_reach(h.positives[::-1, ::-1]), h.edges)
    low, high = rest[0] - most[::-1], rest[1] - least[::-1]
    smallest, largest = np.maximum(0, np.maximum(low, -high)).sum(), np.maximum(np.abs(low), np.abs(high)).sum()
    everybody = total + h.missing
    return float(max(0.0, smallest - h.missing) / everybody), float(min(1.0, (largest + h.missing) / everybody))


def _sums(fewest: Counts, most: Counts, edges: Counts) -> tuple[Counts, Counts]:
    """Return bounds of the sum of the scores in each of `BINS`, from bounds of the number at or below each upper edge: integration by parts."""
    width, per = edges[1] - edges[0], len(fewest) // BINS
    fewest, most = np.append(0.0, fewest), np.append(0.0, most)
    tops, bottoms = np.arange(1, BINS + 1) * per, np.arange(BINS) * per
    area_least = np.array([fewest[b:t].sum() for b, t in zip(bottoms, tops, strict=True)]) * width
    area_most = np.array([most[b + 1 : t + 1].sum() for b, t in zip(bottoms, tops, strict=True)]) * width
    high = edges[tops] * most[tops] - edges[bottoms] * fewest[bottoms] - area_least
    low = edges[tops] * fewest[tops] - edges[bottoms] * most[bottoms] - area_most
    return np.maximum(low, 0.0), np.maximum(high, 0.0)


def reliability_bounds(h: Histogram) -> list[dict[str, float]]:
    """Return the bins that hold anybody: their edges, the bounds of the share that came true, and limits that hold its 95 % interval (Wilson)."""
    per = h.rest.shape[1] // BINS
    ends = {name: [np.append(0.0, part)[::per] for part in _reach(row)] for name, row in (("rest", h.rest), ("positives", h.positives))}
    rows = []
    for b in range(BINS):
        span = {name: (max(0.0, least[b + 1] - most[b]), most[b + 1] - least[b]) for name, (least, most) in ends.items()}
        (few, many), (least, most) = span["rest"], span["positives"]
        if many + most == 0:
            continue
        low, high = (least / (least + many) if least + many else 0.0), (most / (most + few) if most + few else 1.0)
        worst, best = (wilson(round(hits), round(hits + others)) or (0.0, 1.0) for hits, others in ((least, many), (most, few)))
        row = {"from": b / BINS, "to": (b + 1) / BINS, "most": many + most, "low": low, "high": high}
        rows.append(row | {"sampled_low": worst[0], "sampled_high": best[1]})
    return rows


def solved_intercept(scores: Counts, weights: Counts, events: float) -> float | None:
    """Return a with ``sum weights expit(a + logit score) = events``: calibration in the large; None with nobody or everybody an event."""
    from scipy.optimize import brentq
    from scipy.special import expit

    if not 0 < events < weights.sum():
        return None
    p = np.clip(scores, CLIP, 1 - CLIP)
    logit = np.log(p / (1 - p))
    return float(brentq(lambda a: float(weights @ expit(a + logit)) - events, -60.0, 60.0, xtol=1e-10))  # type: ignore[arg-type]
