"""How good a prognosis is: the order of patients, discrimination and error at horizons, each with a bootstrap over patients.

`outcomes` has the shape (n, 3) of `metrics.survival`. `risks`, shape (n, horizons), are P(event by each horizon); a model that only orders patients
(a hazard relative to others) gives (n, 1): what needs a probability is then left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.horizons import auc_at, brier_at, integrated_brier, uno_rows
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval
from shared_models.metrics.spec import Counts, MetricSpec, Rows, number, ones
from shared_models.metrics.survival import SURVIVAL_METRICS, harrell_rows

Outcomes = NDArray[np.float64]
Risks = NDArray[np.float64]


def _ordered(outcomes: Outcomes, risks: Risks, counts: Counts) -> Rows:
    return harrell_rows(outcomes, risks[:, -1], counts)


def _uno(outcomes: Outcomes, risks: Risks, counts: Counts, *, horizon: float) -> Rows:
    return uno_rows(outcomes, risks[:, -1], counts, horizon=horizon)


def _auc(outcomes: Outcomes, risks: Risks, counts: Counts, *, horizon: float, column: int) -> Rows:
    return auc_at(outcomes, risks[:, column], counts, horizon=horizon)


def _brier(outcomes: Outcomes, risks: Risks, counts: Counts, *, horizon: float, column: int) -> Rows:
    return brier_at(outcomes, risks[:, column], counts, horizon=horizon)


def _integrated(outcomes: Outcomes, risks: Risks, counts: Counts, *, horizons: Sequence[float]) -> Rows:
    return integrated_brier(outcomes, risks, np.asarray(horizons, np.float64), counts)


def prognosis_metrics(horizons: Sequence[float], *, absolute: bool = True) -> dict[str, MetricSpec]:
    """Return the metrics of a prognosis by name: ``function(outcomes, risks, counts) -> rows``.

    Parameters
    ----------
    horizons : sequence of float
        Rising, in the unit of the times; ``auc_at_3`` is the AUC at horizon 3.
    absolute : bool
        Whether `risks` are probabilities by horizon; otherwise they order patients and no more.

    Examples
    --------
    >>> list(prognosis_metrics([1, 3]))
    ['harrell_c', 'uno_c', 'auc_at_1', 'auc_at_3', 'brier_at_1', 'brier_at_3', 'integrated_brier']
    """
    found = {
        "harrell_c": MetricSpec(_ordered, *_words("harrell_c")),
        "uno_c": MetricSpec(
            partial(_uno, horizon=horizons[-1]),
            "Uno's C",
            "higher",
            f"As Harrell's C up to {horizons[-1]:g}, over all hospitals, with pairs weighted so that it does not hang on who was lost when.",
            "Uno et al., Stat Med 2011;30:1105",
        ),
    }
    for place, horizon in enumerate(horizons):
        found[f"auc_at_{horizon:g}"] = MetricSpec(
            partial(_auc, horizon=horizon, column=place if absolute else -1),
            f"AUC at {horizon:g}",
            "higher",
            f"Of one patient with the event by {horizon:g} and one without it then, how often the first has the higher risk; 0.5 is chance.",
            "Uno et al., J Am Stat Assoc 2007;102:527",
        )
    if not absolute:
        return found
    for place, horizon in enumerate(horizons):
        found[f"brier_at_{horizon:g}"] = MetricSpec(
            partial(_brier, horizon=horizon, column=place),
            f"Brier score at {horizon:g}",
            "lower",
            f"Mean squared error of the risk by {horizon:g}, weighted for those who were lost before it.",
            "Graf et al., Stat Med 1999;18:2529",
            scale="positive",
        )
    if len(horizons) > 1:
        found["integrated_brier"] = MetricSpec(
            partial(_integrated, horizons=tuple(horizons)),
            "Integrated Brier score",
            "lower",
            f"Mean of the Brier score from {horizons[0]:g} to {horizons[-1]:g}.",
            "Graf et al., Stat Med 1999;18:2529",
            scale="positive",
        )
    return found


def prognosis_title(name: str) -> str | None:
    """Return the name of a metric of prognosis for readers; None of another.

    Examples
    --------
    >>> prognosis_title("auc_at_3"), prognosis_title("uno_c"), prognosis_title("auroc_UIP")
    ('AUC at 3', "Uno's C", None)
    """
    place = name.rpartition("_at_")[2]
    horizons = (1.0, float(place)) if place.replace(".", "", 1).isdigit() else (1.0, 2.0)
    spec = prognosis_metrics(horizons).get(name)
    return None if spec is None else spec.title


def _words(name: str) -> tuple[str, Any, str, str]:
    spec = SURVIVAL_METRICS[name]
    return spec.title, spec.better, spec.means, spec.source


def _checked(outcomes: Any, risks: Any, horizons: Sequence[float], *, absolute: bool) -> tuple[Outcomes, Risks]:
    truth = np.asarray(outcomes, np.float64).reshape(-1, 3)
    width = len(horizons) if absolute else 1
    risk = np.asarray(risks, np.float64)
    risk = risk.reshape(len(truth), -1) if risk.size else np.zeros((len(truth), width))
    if risk.shape[1] != width:
        raise BadInput("a prognosis has one risk a horizon, or a score for all of them", value=risk.shape, remedy=f"horizons are {list(horizons)}")
    if not (np.isfinite(truth).all() and np.isfinite(risk).all() and np.isin(truth[:, 1], (0, 1)).all()):
        raise BadInput("outcomes are finite times with events of 0 or 1, risks are finite")
    if absolute and ((risk < 0) | (risk > 1)).any():
        raise BadInput("a risk is a probability")
    return truth, risk


def score_prognosis(
    outcomes: Any,
    risks: Any,
    horizons: Sequence[float],
    *,
    absolute: bool = True,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
) -> dict[str, dict[str, Any]]:
    """Return each metric of a prognosis with its 95 % interval over patients.

    Parameters
    ----------
    outcomes : array-like, shape (n, 3)
        Time, event, stratum.
    risks : array-like, shape (n, horizons)
        P(event by each horizon); without `absolute` a score that is higher for those at higher risk, shape (n, 1).
    horizons : sequence of float
        Rising, in the unit of the times.
    absolute : bool
        Whether `risks` are probabilities.
    groups : sequence of length n, optional
        The patient of each row: patients are resampled with all their visits.
    seed, bootstrap : int
        Of the resamples; 0 leaves intervals out.

    Returns
    -------
    dict
        ``{metric: {"value", "low", "high", "n", "events"}}``; None is *undefined*.

    Raises
    ------
    BadInput
        Shapes do not fit, or an outcome or risk is not finite.

    Examples
    --------
    >>> found = score_prognosis([[1, 1, 0], [2, 1, 0], [4, 0, 0]], [[0.9, 0.9], [0.1, 0.6], [0.1, 0.2]], [1, 3], bootstrap=0)
    >>> found["harrell_c"]["value"], found["auc_at_3"]["value"], round(found["brier_at_3"]["value"], 3)
    (1.0, 1.0, 0.07)
    """
    truth, risk = _checked(outcomes, risks, horizons, absolute=absolute)
    counts = np.concatenate([ones(len(risk)), bootstrap_counts(len(risk), bootstrap, groups=groups, seed=seed)])
    table: dict[str, dict[str, Any]] = {}
    for name, spec in prognosis_metrics(horizons, absolute=absolute).items():
        rows = spec.function(truth, risk, counts) if len(risk) else np.full(len(counts), np.nan)
        value = number(rows[0])
        ends = None if value is None or not bootstrap else resampled_interval(rows[1:], value, patients_of(groups, len(risk)), scale=spec.scale)
        low, high = ends or (None, None)
        table[name] = {"value": value, "low": low, "high": high, "n": len(risk), "events": int(truth[:, 1].sum())}
    return table


def compare_prognosis(
    name: str,
    outcomes: Any,
    risks: Any,
    others: Sequence[Any],
    horizons: Sequence[float],
    *,
    absolute: bool = True,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
) -> dict[str, float | int | None]:
    """Return a model's metric minus the mean metric of `others` on the same patients, with a 95 % interval from paired resamples.

    Raises
    ------
    BadInput
        As `score_prognosis`, or no other model.
    """
    if not others:
        raise BadInput("a comparison needs at least one other model")
    pairs = [_checked(outcomes, one, horizons, absolute=absolute) for one in (risks, *others)]
    counts = np.concatenate([ones(len(pairs[0][0])), bootstrap_counts(len(pairs[0][0]), bootstrap, groups=groups, seed=seed)])
    spec = prognosis_metrics(horizons, absolute=absolute)[name]
    found = [spec.function(truth, risk, counts) for truth, risk in pairs]
    rows = found[0] - np.mean(found[1:], axis=0)
    value, n = number(rows[0]), len(pairs[0][0])
    low, high = (None if value is None else resampled_interval(rows[1:], value, patients_of(groups, n), scale="difference")) or (None, None)
    return {"value": value, "low": low, "high": high, "n": n}
