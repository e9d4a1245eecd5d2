"""How well several findings of a patient are told at once, beside what calling everything absent would reach.

`truth` is 1, 0 or NaN (not known), `probabilities` 0 to 1, both of shape (n, findings); rows add up to anything. A finding is called at 0.5.
The share of right answers is high wherever findings are rare: it never stands without the share that answering "absent" always gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.ranking import auroc_rows, average_precision_rows
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval
from shared_models.metrics.spec import Counts, MetricSpec, Rows, mean_of_defined, number, ones, ratio

Answers = NDArray[Any]
"""Shape (n, findings)."""


def ranking_rows(each: Any, truth: Answers, probabilities: Answers, counts: Counts) -> Rows:
    """Return the mean over findings of a ranking metric among the patients of whom the finding is known; NaN where no finding has both answers."""
    return mean_of_defined(np.stack([finding_rows(each, truth, probabilities, counts, place) for place in range(truth.shape[1])]))


def finding_rows(each: Any, truth: Answers, probabilities: Answers, counts: Counts, place: int) -> Rows:
    """Return a ranking metric of one finding."""
    known = ~np.isnan(truth[:, place])
    return each(truth[known, place], probabilities[known, place], counts[:, known])


def right_answers(truth: Answers, probabilities: Answers, counts: Counts, *, absent: bool = False) -> Rows:
    """Return the share of known answers that are right; with `absent` that of calling everything absent.

    Examples
    --------
    >>> truth, told = np.array([[1, 0, np.nan], [0, 0, 0]]), np.array([[0.2, 0.1, 0.9], [0.3, 0.1, 0.8]])
    >>> right_answers(truth, told, np.ones((1, 2))).tolist(), right_answers(truth, told, np.ones((1, 2)), absent=True).tolist()
    ([0.6], [0.8])
    """
    known, right = ~np.isnan(truth), _right(truth, probabilities, absent)
    return ratio(counts @ (right & known).sum(1), counts @ known.sum(1))


def whole_rows(truth: Answers, probabilities: Answers, counts: Counts, *, absent: bool = False) -> Rows:
    """Return the share of patients all of whose findings are known and told rightly, among those of whom all are known.

    Examples
    --------
    >>> truth, told = np.array([[1, 0], [0, 0], [1, np.nan]]), np.array([[0.8, 0.1], [0.3, 0.9], [0.9, 0.9]])
    >>> whole_rows(truth, told, np.ones((1, 3))).tolist(), whole_rows(truth, told, np.ones((1, 3)), absent=True).tolist()
    ([0.5], [0.5])
    """
    whole = ~np.isnan(truth).any(1)
    right = _right(truth, probabilities, absent).all(1) & whole
    return ratio(counts @ right.astype(np.float64), counts @ whole.astype(np.float64))


def _right(truth: Answers, probabilities: Answers, absent: bool) -> NDArray[np.bool_]:
    called = np.zeros(truth.shape, bool) if absent else probabilities >= 0.5
    return called == (truth == 1)


FINDING_METRICS: dict[str, MetricSpec] = {
    "auroc_macro": MetricSpec(
        function=partial(ranking_rows, auroc_rows),
        title="AUROC (mean over findings)",
        better="higher",
        means="How often a patient with a finding gets a higher probability of it than one without; 0.5 is chance, 1 is perfect.",
        source="Hanley & McNeil, Radiology 1982;143:29",
        averages_classes=True,
    ),
    "mean_average_precision": MetricSpec(
        function=partial(ranking_rows, average_precision_rows),
        title="Mean average precision",
        better="higher",
        means="How pure the list of patients is when they are called in order of probability, mean over findings; chance is the finding's share.",
        source="Davis & Goadrich, ICML 2006; step function, ties grouped",
        averages_classes=True,
    ),
    "subset_accuracy": MetricSpec(
        function=whole_rows,
        title="Subset accuracy",
        better="higher",
        means="Share of patients of whom every finding is told rightly, present or absent.",
        source="Tsoumakas & Katakis, Int J Data Warehousing and Mining 2007;3:1",
    ),
    "subset_accuracy_all_absent": MetricSpec(
        function=partial(whole_rows, absent=True),
        title="Subset accuracy of calling everything absent",
        better="higher",
        means="What subset accuracy is worth comparing with: the share of patients without any of the findings.",
        source="Tsoumakas & Katakis, Int J Data Warehousing and Mining 2007;3:1",
    ),
    "right_answers": MetricSpec(
        function=right_answers,
        title="Right answers",
        better="higher",
        means="Share of known answers, present or absent, that are right: high wherever findings are rare.",
        source="Hamming accuracy: Tsoumakas & Katakis, Int J Data Warehousing and Mining 2007;3:1",
    ),
    "right_answers_all_absent": MetricSpec(
        function=partial(right_answers, absent=True),
        title="Right answers of calling everything absent",
        better="higher",
        means="What right answers are worth comparing with: the share of answers that are absent.",
        source="Tsoumakas & Katakis, Int J Data Warehousing and Mining 2007;3:1",
    ),
}
"""How well findings are told: ``function(truth, probabilities, counts) -> rows``, counts as of `MetricSpec`."""


def score_findings(
    truth: Any, probabilities: Any, findings: Sequence[str], *, groups: Sequence[Any] | None = None, seed: int = 0, bootstrap: int = 1000
) -> dict[str, dict[str, Any]]:
    """Return each metric, and ``auroc_<finding>`` of each finding, with its 95 % interval over patients.

    Parameters
    ----------
    truth, probabilities : array-like, shape (n, findings)
    findings : sequence of str
        Their names.
    groups : sequence of length n, optional
        The patient of each row.
    seed, bootstrap : int
        Of the resamples of patients; 0 leaves intervals out.

    Raises
    ------
    BadInput
        Shapes that do not fit, a truth other than 1, 0 and NaN, or a probability that is none.

    Examples
    --------
    >>> found = score_findings([[1, 0], [0, float("nan")]], [[0.9, 0.2], [0.4, 0.7]], ["ggo", "honeycombing"], bootstrap=0)
    >>> found["auroc_macro"]["value"], found["auroc_honeycombing"]["value"], found["right_answers"]["value"]
    (1.0, None, 1.0)
    """
    t, p = _checked(truth, probabilities, len(findings)), np.asarray(probabilities, np.float64).reshape(-1, len(findings))
    counts = np.concatenate([ones(len(t)), bootstrap_counts(len(t), bootstrap, groups=groups, seed=seed)])
    rows = {name: spec.function(t, p, counts) for name, spec in FINDING_METRICS.items()}
    rows |= {f"auroc_{name}": finding_rows(auroc_rows, t, p, counts, place) for place, name in enumerate(findings)}
    known = {f"auroc_{name}": int((~np.isnan(t[:, place])).sum()) for place, name in enumerate(findings)}
    patients = patients_of(groups, len(t))
    out: dict[str, dict[str, Any]] = {}
    for name, values in rows.items():
        value = number(values[0])
        low, high = (resampled_interval(values[1:], value, patients) if bootstrap and value is not None else None) or (None, None)
        out[name] = {"value": value, "low": low, "high": high, "n": known.get(name, len(t))}
    return out


def _checked(truth: Any, probabilities: Any, findings: int) -> NDArray[np.float64]:
    t, p = np.asarray(truth, np.float64).reshape(-1, findings), np.asarray(probabilities, np.float64).reshape(-1, findings)
    if t.shape != p.shape:
        raise BadInput("findings and their probabilities have one shape", value=(t.shape, p.shape))
    if not np.isin(t[~np.isnan(t)], (0, 1)).all() or not np.isfinite(p).all() or (p.size and (p.min() < 0 or p.max() > 1)):
        raise BadInput("a finding is 1, 0 or not known, and its probability lies between 0 and 1")
    return t


def compare_findings(
    truth: Any, probabilities: Any, others: Sequence[Any], metric: str, *, groups: Sequence[Any] | None = None, seed: int = 0, bootstrap: int = 1000
) -> dict[str, float | int | None]:
    """Return a model's metric minus the mean metric of other models on the same patients, with a 95 % interval from paired resamples."""
    function, t = FINDING_METRICS[metric].function, np.asarray(truth, np.float64)
    counts = np.concatenate([ones(len(t)), bootstrap_counts(len(t), bootstrap, groups=groups, seed=seed)])
    models = [function(t, np.asarray(model, np.float64), counts) for model in (probabilities, *others)]
    rows = models[0] - np.mean(models[1:], axis=0)
    value, patients = number(rows[0]), patients_of(groups, len(t))
    low, high = (resampled_interval(rows[1:], value, patients, scale="difference") if bootstrap and value is not None else None) or (None, None)
    return {"value": value, "low": low, "high": high, "n": len(t)}
