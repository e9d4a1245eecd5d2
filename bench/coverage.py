"""Coverage of every interval that is printed: of how many simulated data sets it holds the truth that they were drawn from; asked are 93 to 97 %.

python -m bench.coverage [--sets 2000] [--sizes 200,40] [--only auroc_newcombe,brier] [--resamples 500]

A size is the number of patients. An interval that says *undefined* is counted apart and neither holds nor misses. Truths come from formulas or
numeric integrals, those marked * from a million simulated patients.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit, ndtr, ndtri

from bench.timing import heading, table
from shared_models.metrics import METRICS
from shared_models.metrics.agreement import agreement_of, repeatability
from shared_models.metrics.calibration_intervals import calibration_cells
from shared_models.metrics.classification import class_auroc_interval
from shared_models.metrics.decision import benefit_ends, benefit_interval, benefit_rows, net_benefit
from shared_models.metrics.horizons import benefit_rows_at, calibration_at
from shared_models.metrics.intervals import bootstrap_counts, delong_interval, wilson
from shared_models.metrics.paired import t_interval
from shared_models.metrics.prognosis import prognosis_metrics
from shared_models.metrics.prognosis_curves import calibration_of
from shared_models.metrics.ranking import auroc_rows, average_precision_rows
from shared_models.metrics.resampled_intervals import resampled_interval
from shared_models.metrics.sensitivity_interval import mean_sensitivity_interval, sensitivity_interval
from shared_models.metrics.spec import Rows, Scale
from shared_models.survival.life_table import kaplan_meier, life_table

Ends = tuple[float | None, float | None] | None
Case = Callable[[np.random.Generator, int], tuple[float, Ends]]

RESAMPLES = 500
SHIFT, SHARE = 1.5, 0.4
"""Binormal scores: positives lie so many standard deviations higher; share of positives."""
X = np.linspace(-8, 8, 4001)
STEP = X[1] - X[0]
DENSITY = np.exp(-(X**2) / 2) / np.sqrt(2 * np.pi) * STEP


@functools.cache
def counts(n: int, groups: int = 1) -> np.ndarray:
    """Resamples of n patients with `groups` cases each: as in a run, the same for all data sets."""
    return bootstrap_counts(n * groups, RESAMPLES, groups=None if groups == 1 else np.repeat(np.arange(n), groups), seed=0)


def resampled(rows_of: Callable[[np.ndarray], Rows], n: int, groups: int = 1, *, scale: Scale = "share") -> Ends:
    """Return the interval that is printed of what is resampled; None where it is undefined."""
    rows = rows_of(np.concatenate([np.ones((1, n * groups)), counts(n, groups)]))
    return resampled_interval(rows[1:], float(rows[0]), n, scale=scale)


def binormal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.arange(n) < round(SHARE * n)
    return truth, rng.normal(SHIFT * truth, 1.0)


def auroc_newcombe(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    return float(ndtr(SHIFT / np.sqrt(2))), class_auroc_interval(*binormal(rng, n))


def auroc_delong(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    return float(ndtr(SHIFT / np.sqrt(2))), delong_interval(*binormal(rng, n))


def auroc_bootstrap(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    truth, scores = binormal(rng, n)
    return float(ndtr(SHIFT / np.sqrt(2))), resampled(partial(auroc_rows, truth, scores), n)


def auroc_of_clusters(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    # Three scans a patient, half of the variance between patients: each scan alone is binormal as before.
    truth = np.arange(n) < round(SHARE * n)
    scores = SHIFT * np.repeat(truth, 3) + np.repeat(rng.normal(0, np.sqrt(0.5), n), 3) + rng.normal(0, np.sqrt(0.5), 3 * n)
    return float(ndtr(SHIFT / np.sqrt(2))), resampled(partial(auroc_rows, np.repeat(truth, 3), scores), n, 3)


@functools.cache
def true_precision() -> float:
    above = 1 - ndtr(X), 1 - ndtr(X - SHIFT)
    precision = SHARE * above[1] / np.maximum(SHARE * above[1] + (1 - SHARE) * above[0], 1e-300)
    return float((precision * np.exp(-((X - SHIFT) ** 2) / 2) / np.sqrt(2 * np.pi) * STEP).sum())


def auprc(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    return true_precision(), resampled(partial(average_precision_rows, *binormal(rng, n)), n)


def sensitivity_at_90(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    truth, scores = binormal(rng, n)
    return float(1 - ndtr(ndtri(0.9) - SHIFT)), sensitivity_interval(truth, scores, counts(n))


def sensitivity_macro(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    # Both classes against the rest: the two curves are alike, so the truth is that of one.
    truth, scores = binormal(rng, n)
    p = expit(scores)
    return float(1 - ndtr(ndtri(0.9) - SHIFT)), mean_sensitivity_interval(truth.astype(int), np.stack([1 - p, p], 1), counts(n))


def auroc_difference(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    # Of the same patients: a second model sees the first one's score through noise.
    truth, scores = binormal(rng, n)
    worse = scores + rng.normal(0, 1, n)

    def rows(drawn: np.ndarray) -> Rows:
        return auroc_rows(truth, scores, drawn) - auroc_rows(truth, worse, drawn)

    return float(ndtr(SHIFT / np.sqrt(2)) - ndtr(SHIFT / 2)), resampled(rows, n, scale="difference")


def called(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and calls of them that find .8 of the one and .9 of the other."""
    truth = (np.arange(n) < round(SHARE * n)).astype(int)
    right = rng.random(n) < np.where(truth, 0.8, 0.9)
    return truth, np.eye(2)[np.where(right, truth, 1 - truth)]


def balanced_accuracy(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    return 0.85, resampled(partial(METRICS["balanced_accuracy"].function, *called(rng, n)), n)


def macro_f1(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    hit, other, missed, alarm = SHARE * 0.8, (1 - SHARE) * 0.9, SHARE * 0.2, (1 - SHARE) * 0.1
    truth = hit / (2 * hit + missed + alarm) + other / (2 * other + missed + alarm)
    return truth, resampled(partial(METRICS["macro_f1"].function, *called(rng, n)), n)


def mean_dice(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    # Dice of each patient's lung: a beta distribution of mean .8.
    each = rng.beta(8, 2, n)
    return 0.8, resampled(lambda drawn: drawn @ each / n, n)


def accuracy(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    return 0.85, wilson(int(rng.binomial(n, 0.85)), n)


# Probabilities: too sure by 1 / 0.7 and too low by 0.3 on the logit scale.
SLOPE, OFFSET, SPREAD = 0.7, 0.3, 1.5


def stated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    logit = rng.normal(0, SPREAD, n)
    return (rng.random(n) < expit(OFFSET + SLOPE * logit)).astype(int), expit(logit)


def _mean(of: np.ndarray) -> float:
    return float((of * DENSITY).sum())


P, TRUE = expit(SPREAD * X), expit(OFFSET + SLOPE * SPREAD * X)


@functools.cache
def true_intercept() -> float:
    from scipy.optimize import brentq

    return float(brentq(lambda a: _mean(expit(a + SPREAD * X)) - _mean(TRUE), -5, 5))


def slope(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    cell = calibration_cells(*stated(rng, n))["slope"]
    return SLOPE, None if cell["value"] is None else (cell["low"], cell["high"])


def intercept(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    cell = calibration_cells(*stated(rng, n))["intercept"]
    return true_intercept(), None if cell["value"] is None else (cell["low"], cell["high"])


def _scored(name: str, truth: float) -> Case:
    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        y, p = stated(rng, n)
        two = np.stack([1 - p, p], 1)
        spec = METRICS[name]
        if spec.estimate:
            found = spec.estimate(y, two, None)
            return truth, (found["low"], found["high"])
        return truth, resampled(partial(spec.function, y, two), n, scale=spec.scale)

    return case


LOSS = -(TRUE * np.log(P) + (1 - TRUE) * np.log(1 - P))

# Survival: exponential times, log hazard ratio 1 of a normal score, half of the patients lost at random by uniform times.
RATE, BETA, LAST, HORIZONS = 0.25, 1.0, 8.0, (1.0, 3.0)


def followed(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(0, 1, n)
    event, left = rng.exponential(1 / (RATE * np.exp(BETA * x))), rng.uniform(0.5, LAST, n)
    outcomes = np.column_stack([np.minimum(event, left), event <= left, np.zeros(n)]).astype(float)
    return outcomes, np.stack([risk(x, t) for t in HORIZONS], 1)


def risk(x: np.ndarray, t: float) -> np.ndarray:
    return 1 - np.exp(-RATE * t * np.exp(BETA * x))


@functools.cache
def true_prognosis(name: str) -> float:
    if name.startswith("auc_at"):
        f = risk(X, float(name[7:])) * DENSITY
        s = DENSITY - f
        return float(f @ (np.cumsum(s) - s / 2) / (f.sum() * s.sum()))
    if name.startswith("brier_at"):
        r = risk(X, float(name[9:]))
        return _mean(r * (1 - r) ** 2 + (1 - r) * r**2)
    if name == "integrated_brier":
        return (true_prognosis("brier_at_1") + true_prognosis("brier_at_3")) / 2
    rng, right, pairs = np.random.default_rng(1), 0, 0
    x, y = rng.normal(0, 1, (2, 2_000_000))
    a, b = rng.exponential(1 / (RATE * np.exp(BETA * x))), rng.exponential(1 / (RATE * np.exp(BETA * y)))
    if name == "uno_c":
        told = np.minimum(a, b) < HORIZONS[-1]
    else:
        c, d = rng.uniform(0.5, LAST, (2, x.size))
        told = np.where(a < b, a <= np.minimum(c, d), b <= np.minimum(c, d))
    right, pairs = int((((a < b) == (x > y)) & told).sum()), int(told.sum())
    return right / pairs


def _prognosis(name: str) -> Case:
    spec = prognosis_metrics(HORIZONS)[name]

    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        return true_prognosis(name), resampled(partial(spec.function, *followed(rng, n)), n, scale=spec.scale)

    return case


# Probabilities of an event by classes, and what acting on them is worth.
def true_benefit(t: float) -> float:
    acted = (t <= P).astype(float)
    return _mean(acted * (TRUE - (1 - TRUE) * t / (1 - t)))


def _benefit(t: float) -> Case:
    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        y, p = stated(rng, n)
        acted = p >= t
        return true_benefit(t), benefit_interval(int(y[acted].sum()), int((1 - y[acted]).sum()), n, t)

    return case


def benefit_of_clusters(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    # Three scans a patient who has one outcome; stated each time through noise, around one logit of the patient.
    logit = rng.normal(0, np.sqrt(SPREAD**2 - 0.5), n)
    seen = np.repeat(logit, 3) + rng.normal(0, np.sqrt(0.5), 3 * n)
    y = np.repeat(rng.random(n) < expit(logit), 3)
    ends = benefit_ends(benefit_rows(y, expit(seen), np.array([0.3]), counts(n, 3)), [float(net_benefit(y, expit(seen), np.array([0.3]))[0])], n)
    return true_benefit_of_clusters(), ends[0]


@functools.cache
def true_benefit_of_clusters() -> float:
    spread = np.sqrt(SPREAD**2 - 0.5)
    acted, risk_of = ndtr((spread * X - np.log(0.3 / 0.7)) / np.sqrt(0.5)), expit(spread * X)
    return _mean(acted * (risk_of - (1 - risk_of) * 0.3 / 0.7))


def stated_too_low(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes, risks by 3 that hold, and stated ones that are too low."""
    outcomes, risks = followed(rng, n)
    return outcomes, risks[:, 1], 1 - (1 - risks[:, 1]) ** TOO_LOW


TOO_LOW = 0.7
"""Factor on the hazard of stated risks."""


def calibration_ratio(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    outcomes, _, said = stated_too_low(rng, n)
    cell = (calibration_of(outcomes, said, horizon=3.0, counts=counts(n)) or {}).get("ratio")
    return _mean(risk(X, 3.0)) / _mean(1 - (1 - risk(X, 3.0)) ** TOO_LOW), cell and cell["low"] and (cell["low"], cell["high"])


def calibration_difference(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    outcomes, _, said = stated_too_low(rng, n)
    cell = (calibration_of(outcomes, said, horizon=3.0, counts=counts(n)) or {}).get("difference")
    return _mean(risk(X, 3.0)) - _mean(1 - (1 - risk(X, 3.0)) ** TOO_LOW), cell and (cell["low"], cell["high"])


def _calibration_bin(which: int) -> Case:
    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        # Every data set has bins of its own: the truth is the mean risk of those in it, and is shifted to 0.
        outcomes, risks, said = stated_too_low(rng, n)
        bins = min(5, n // 10)  # as a page has them
        rows = calibration_at(outcomes, said, horizon=3.0, bins=bins)
        members = np.array_split(np.argsort(said, kind="stable"), bins)[which]
        row = next((row for row in rows if abs(row["stated"] - said[members].mean()) < 1e-12), None)
        truth = float(risks[members].mean())
        return 0.0, None if row is None or row["low"] is None else (row["low"] - truth, row["high"] - truth)

    return case


@functools.cache
def true_benefit_at_3(t: float, everybody: bool = False) -> float:
    r = risk(X, 3.0)
    acted = np.ones_like(X) if everybody else (1 - (1 - r) ** TOO_LOW >= t).astype(float)
    return _mean(acted * (r - (1 - r) * t / (1 - t)))


def _benefit_at_3(t: float, *, over_all: bool = False) -> Case:
    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        outcomes, _, said = stated_too_low(rng, n)
        drawn, at = np.concatenate([np.ones((1, n)), counts(n)]), {"horizon": 3.0, "thresholds": np.array([t])}
        rows = benefit_rows_at(outcomes, said, drawn, **at)
        if over_all:
            rows = rows - benefit_rows_at(outcomes, np.ones(n), drawn, **at)
        truth = true_benefit_at_3(t) - (true_benefit_at_3(t, True) if over_all else 0.0)
        return truth, benefit_ends(rows[1:], rows[0].tolist(), n)[0]

    return case


def kaplan(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    event, left = rng.exponential(1 / RATE, n), rng.uniform(0.5, LAST, n)
    curve = kaplan_meier(life_table(np.minimum(event, left), event <= left))
    place = int(np.searchsorted(curve.times, 3.0, side="right")) - 1
    return float(np.exp(-3 * RATE)), None if place < 0 else (float(curve.low[place]), float(curve.high[place]))


def cox_wald(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    from shared_models.classical.cox import cox, hazard_table

    x = rng.normal(0, 1, (n, 2))
    event, left = rng.exponential(1 / (RATE * np.exp(0.5 * x[:, 0]))), rng.uniform(0.5, LAST, n)
    y = np.column_stack([np.minimum(event, left), event <= left, np.zeros(n)]).astype(float)
    model = cox(2, 2)
    state = model.start(seed=0)
    for _ in range(12):
        state = model.combine(state, [model.contribution(state, x, y, seed=0)], [1.0])
    found = hazard_table(state)
    value, error = float(found["coefficient"][0]), float(found["standard_error"][0])
    return 0.5, (value - 1.959964 * error, value + 1.959964 * error)


# Two measurements of the same cases.
BIAS, ERROR = 0.5, 1.0


def _agreement(name: str, truth: float) -> Case:
    def case(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
        a = rng.normal(0, 3, n)
        cell = agreement_of(a, a + rng.normal(BIAS, ERROR, n))[name]
        return truth, (cell["low"], cell["high"])

    return case


def repeated(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    base = rng.normal(0, 3, n)
    cell = repeatability(base + rng.normal(0, 1, n), base + rng.normal(0, 1, n))
    return 1.96 * np.sqrt(2), (cell["low"], cell["high"])


def mean_of_seeds(rng: np.random.Generator, n: int) -> tuple[float, Ends]:
    cell = t_interval(rng.normal(0.7, 0.05, 5).tolist())  # type: ignore[arg-type]
    return 0.7, (cell["low"], cell["high"])


FOLDED = ERROR * np.sqrt(2 / np.pi) * np.exp(-(BIAS**2) / 2 / ERROR**2) + BIAS * (1 - 2 * ndtr(-BIAS / ERROR))
CCC = 2 * 9 / (9 + 10 + BIAS**2)

CASES: dict[str, Case] = {
    "auroc_newcombe": auroc_newcombe,
    "auroc_delong": auroc_delong,
    "auroc_bootstrap": auroc_bootstrap,
    "auroc_of_clusters": auroc_of_clusters,
    "auprc": auprc,
    "sensitivity_at_90": sensitivity_at_90,
    "sensitivity_macro": sensitivity_macro,
    "auroc_difference": auroc_difference,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mean_dice": mean_dice,
    "accuracy": accuracy,
    "brier": _scored("brier", _mean(TRUE * (1 - P) ** 2 + (1 - TRUE) * P**2)),
    "log_loss": _scored("log_loss", _mean(LOSS)),
    "ece": _scored("ece", _mean(np.abs(P - TRUE))),
    "slope": slope,
    "intercept": intercept,
    "kaplan_meier": kaplan,
    "cox_wald": cox_wald,
    **{name: _prognosis(name) for name in prognosis_metrics(HORIZONS)},
    "net_benefit_20": _benefit(0.2),
    "net_benefit_50": _benefit(0.5),
    "net_benefit_of_clusters": benefit_of_clusters,
    "net_benefit_at_3_20": _benefit_at_3(0.2),
    "net_benefit_at_3_50": _benefit_at_3(0.5),
    "over_all_at_3_50": _benefit_at_3(0.5, over_all=True),
    "calibration_ratio_at_3": calibration_ratio,
    "calibration_difference_at_3": calibration_difference,
    "calibration_bin_low": _calibration_bin(0),
    "calibration_bin_middle": _calibration_bin(2),
    "calibration_bin_high": _calibration_bin(-1),
    "bias": _agreement("bias", BIAS),
    "limit_high": _agreement("limit_high", BIAS + 1.96 * ERROR),
    "mae": _agreement("mae", float(FOLDED)),
    "ccc": _agreement("ccc", CCC),
    "repeatability": repeated,
    "mean_of_seeds": mean_of_seeds,
}


def coverage(name: str, n: int, sets: int, seed: int = 0) -> dict[str, Any]:
    """Return of how many data sets with an interval it holds the truth (an open end holds everything), misses on either side, and the undefined."""
    rng, low_of, high_of, truth = np.random.default_rng(seed), [], [], 0.0
    undefined = 0
    for _ in range(sets):
        truth, ends = CASES[name](rng, n)
        if ends is None:
            undefined += 1
            continue
        low_of.append(-np.inf if ends[0] is None else ends[0])
        high_of.append(np.inf if ends[1] is None else ends[1])
    low, high = np.array(low_of), np.array(high_of)
    told = len(low)
    return {
        "truth": truth,
        "covered": float(((low <= truth) & (truth <= high)).mean()) if told else None,
        "below": float((high < truth).mean()) if told else None,
        "above": float((low > truth).mean()) if told else None,
        "width": float(np.median(high - low)) if told else None,
        "undefined": undefined / sets,
    }


def main(arguments: list[str] | None = None) -> None:
    global RESAMPLES
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--sizes", default="200,40")
    parser.add_argument("--only", default="")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    chosen = parser.parse_args(arguments)
    RESAMPLES = chosen.resamples
    heading("bench.coverage")
    began, rows = time.monotonic(), []
    for name in chosen.only.split(",") if chosen.only else CASES:
        for n in map(int, chosen.sizes.split(",")):
            found = coverage(name, n, chosen.sets)
            shares = [f"{found[key]:.3f}" if found[key] is not None else "" for key in ("truth", "covered", "below", "above", "width", "undefined")]
            asked = "" if found["covered"] is None else "yes" if 0.93 <= found["covered"] <= 0.97 else "NO"
            rows.append([name, str(n), *shares, asked])
            print(" ".join(rows[-1]), flush=True)
    table(["interval", "patients", "truth", "covered", "ends below", "begins above", "width", "undefined", "93-97 %"], rows)
    print(f"{chosen.sets} data sets each, {chosen.resamples} resamples, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
