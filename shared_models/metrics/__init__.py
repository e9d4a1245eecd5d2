"""Metrics: how good predictions are and how sure that is. ``METRICS`` is the table; `score` computes it with intervals.

An undefined value (no positives, one class only, no cases) is None, never 0.5 and never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared_models.core.choices import Choice
from shared_models.metrics import calibration, classification
from shared_models.metrics.calibration_error import debiased_ece
from shared_models.metrics.scoring import compare, describe_predictions, evaluate
from shared_models.metrics.sensitivity_interval import mean_sensitivity_interval
from shared_models.metrics.spec import MetricSpec

METRICS: dict[str, MetricSpec] = {
    "auroc_macro": MetricSpec(
        function=classification.auroc_macro,
        title="AUROC (mean over classes)",
        better="higher",
        means="How often a case of a class gets a higher probability of that class than a case of another; 0.5 is chance, 1 is perfect.",
        source="Hanley & McNeil, Radiology 1982;143:29; one against the rest, equal class weights: Fawcett 2006",
        closed_form=classification.auroc_interval,
        averages_classes=True,
    ),
    "auprc_macro": MetricSpec(
        function=classification.auprc_macro,
        title="AUPRC (mean over classes)",
        better="higher",
        means="Average precision: how pure the list of cases is when they are called in order of probability; chance is the share of the class.",
        source="Davis & Goadrich, ICML 2006; step function, ties grouped",
        averages_classes=True,
    ),
    "balanced_accuracy": MetricSpec(
        function=classification.balanced_accuracy,
        title="Balanced accuracy",
        better="higher",
        means="Share of cases recognised, averaged over classes, so that a rare class counts as much as a common one.",
        source="Brodersen et al., ICPR 2010",
        closed_form=classification.recall_interval,
    ),
    "accuracy": MetricSpec(
        function=classification.accuracy,
        title="Accuracy",
        better="higher",
        means="Share of cases whose most probable class is the true one.",
        source="interval: Wilson, J Am Stat Assoc 1927;22:209",
        closed_form=classification.accuracy_interval,
        closed_form_when="always",
    ),
    # The same number as balanced accuracy, under the name that papers on several classes use.
    "mean_recall": MetricSpec(
        function=classification.balanced_accuracy,
        title="Mean recall",
        better="higher",
        means="Another name for balanced accuracy.",
        source="Brodersen et al., ICPR 2010",
        closed_form=classification.recall_interval,
    ),
    "macro_f1": MetricSpec(
        function=classification.macro_f1,
        title="F1 (mean over classes)",
        better="higher",
        means="Balance of how many cases of a class are found and how many calls of it are right, averaged over classes.",
        source="Van Rijsbergen, Information Retrieval, 1979",
    ),
    "sensitivity_at_specificity": MetricSpec(
        function=classification.sensitivity_at_specificity,
        title="Sensitivity at 90 % specificity",
        better="higher",
        means="Share of a class found when at most one in ten other cases may be called wrongly; threshold chosen on the same cases.",
        source="Pepe, The Statistical Evaluation of Medical Tests, 2003; interval: Zhou & Qin, Stat Med 2005;24:465",
        averages_classes=True,
        interval=mean_sensitivity_interval,
    ),
    "brier": MetricSpec(
        function=calibration.brier,
        title="Brier score",
        better="lower",
        means="Mean squared error of the probabilities; 0 is perfect, the worst is 1 for two classes and 2 for more.",
        source="Brier, Mon Weather Rev 1950;78:1",
        scale="positive",
    ),
    "log_loss": MetricSpec(
        function=calibration.log_loss,
        title="Log-loss",
        better="lower",
        means="Mean surprise at the true class; guessing evenly among k classes costs ln k.",
        source="Good, J R Stat Soc B 1952;14:107",
        scale="positive",
    ),
    "ece": MetricSpec(
        function=calibration.ece,
        title="Expected calibration error",
        better="lower",
        means="Mean gap between the stated probability and how often it comes true, less what noise alone adds; 0 is perfect.",
        source="Naeini et al., AAAI 2015; Guo et al., ICML 2017; equal-mass bins; bias: Roelofs et al., AISTATS 2022",
        estimate=debiased_ece,
    ),
}


def score(
    labels: Any,
    probabilities: Any,
    classes: Sequence[str],
    *,
    metrics: Sequence[str | Choice] | None = None,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 1000,
) -> dict[str, dict[str, Any]]:
    """Return each metric with its 95 % interval.

    Parameters
    ----------
    labels : array-like of int or str, shape (n,)
        True class of each case: index into `classes` or name.
    probabilities : array-like, shape (n, k)
        Rows sum to 1; for two classes a single column of P(second class) will do.
    classes : sequence of str
        Names of the k classes.
    metrics : sequence of str or Choice, optional
        Names from ``METRICS`` or ``auroc_<class>``; by default all of them.
    groups : sequence of length n, optional
        The patient of each case: patients, not cases, are resampled.
    seed : int
        The same seed gives the same intervals.
    bootstrap : int
        Number of resamples; 0 leaves intervals out (None).

    Returns
    -------
    dict
        ``{metric: {"value", "low", "high", "n"}}``, plus ``patients`` with `groups` and, for averages over classes, ``classes``: how many of them
        are defined; ``ece`` is debiased and has the ``plain`` figure beside it. None is *undefined*. Intervals are those of `resampled_interval`,
        but with one case a patient the accuracy has Wilson's and ``auroc_<class>`` has Newcombe's; so has a perfect score whose resamples are all
        alike. A sensitivity's knows that its threshold was drawn, too (`sensitivity_interval`). Where no interval is defensible it is None.

    Raises
    ------
    BadInput
        Shapes, labels or probabilities break the rules of `scoring.as_predictions`.
    BadChoice
        No such metric.

    Examples
    --------
    >>> table = score([0, 1, 1, 0], [.2, .9, .4, .3], ["normal", "UIP"], metrics=["accuracy", "auroc_UIP"])
    >>> table["accuracy"]["value"], table["auroc_UIP"]["value"], table["accuracy"]["n"]
    (0.75, 1.0, 4)
    """
    return evaluate(METRICS, labels, probabilities, classes, metrics=metrics, groups=groups, seed=seed, bootstrap=bootstrap)


__all__ = ["METRICS", "MetricSpec", "compare", "describe_predictions", "score"]
