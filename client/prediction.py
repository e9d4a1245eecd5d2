"""What a released model says about one patient's CT: the one object from which every output (JSON, page) is written.

Keys of ``prediction.json``, format 2 (its schema is ``prediction.schema.json``, see `client.prediction_schema`):

    format, notice     number of this format; the sentence that stands on every output
    warning            why the output must not be taken at its word (what the model was trained on); null where there is none
    cautions           further reasons to doubt, as sentences
    headline           name of the series to look at first: the best one of the latest visit
    series[]           ``series``, ``visit`` (1 is the earliest), ``acquisition``, ``findings[]`` (code, severity, text), ``quantification``
                       (feature: number or null), ``columns`` (what a table model read), ``probabilities`` (class: 0..1), ``slices[]``
    series[].explanation  ``method``, ``class`` that it is of, ``alike`` (rank correlation with the map of a random network, or null; from 0.5 on
                       the map says nothing), ``columns`` (what each added to the score of a table model); null where there is none
    series[].calibration ``temperature``; ``classes`` of the prediction set with its ``coverage`` (wanted, bounds, patients); ``distance`` from the
                       training patients, ``threshold`` and whether the patient is ``unfamiliar``; the ``operating_point``: ``label``, its
                       ``probability``, the frozen ``threshold``, whether it is ``exceeded``; null in a release without calibration
    series[].category    ``needs`` a pattern map where there is none; else the ``category`` that the rules suggest and the ``rule`` that fired, or
                       null with the ``open`` rules, what they do not know, and what follows ``otherwise``; ``measures``, ``extents`` by region, the
                       SHA-256 of the ``network``
    series[].quantities  ``told`` (patterns that the map can show) and, by region, ``lung_ml`` and of each part ``percent``, ``ml`` and the ``bin`` of
                       its extent; null without a pattern map
    series[].disagreement  of the members of an ensemble about this series, nats: the mutual information of class and member; null for one model
    series[].risks     by horizon, of a prognosis, in place of probabilities; null else
    series[].risk_uncertainty  ``interval`` by horizon or ``why_none``; of an ensemble the ``spread`` of its ``members``; null without risks
    series[].slices[]  ``number`` (1 is nearest the head) ``of`` all, ``height_percent`` (0 lung base, 100 apex), ``attention`` (or null);
                       ``pattern_slices[]`` are those on which the page shows the pattern map
    reference          values of healthy lungs for some features: ``low``, ``high``, ``middle``, ``of``
    left_out[]         ``reason``, ``meaning``, ``remedy`` and number of ``files`` that were not used
    change             between the best series of the last two visits: their ``series``, ``years``, by part ``before``, ``after``, ``change`` in
                       points of the lung, the ``limit`` that measurement error sets (null where nobody measured it) and whether it is ``beyond``; the
                       ``progression`` by the criteria of 2022; what it ``needs``; null with one visit
    scores             by clinical score ``value``, ``stage``, reported ``risk`` by year, what is ``missing``; null without a clinical table
    model              the release: digests, classes, its ``target`` (``findings``: each class has a probability of its own), what it was trained on,
                       performance with 95 % intervals, limits; whose ``weights`` were applied: ``global``, or ``personal`` with the ``site`` that
                       keeps them

Series names are drawn anew at each run. No name, number, date or path of the patient is in any output, nor age and sex unless the model
reads them: clinical scores say what they lack and not what they read.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from client.cases.cohort import number_out
from client.reference import REFERENCE
from shared_models.bundle import NOTICE, Bundle
from shared_models.catalogue import spec_of

FORMAT = 2
"""2 has ``risk_uncertainty`` and ``pattern_slices`` of each series."""

WARNINGS = {
    "phantoms": "This model was trained on synthetic phantoms. It has never seen a patient: what it says about a patient means nothing.",
    None: "What this model was trained on is not recorded. What it says about a patient cannot be relied on.",
}
"""What a model was trained on to the warning that its every output carries; other values carry none."""


@dataclass(frozen=True)
class SeenSlice:
    """A slice that the model looked at, or that stands for the study.

    Parameters
    ----------
    number, of : int
        Place in the series, 1 nearest the head, and how many slices there are.
    height_percent : float
        Height inside the lungs: 0 at their lowest slice, 100 at their highest.
    attention : float or None
        The model's weight of the slice; over all slices of a series they sum to 1. None where the model has none.
    picture : bytes
        PNG with the outline of the lungs; empty for slices that are not shown.
    overlay : bytes
        The same with the explanation laid over it; empty where there is none.
    """

    number: int
    of: int
    height_percent: float
    attention: float | None = None
    picture: bytes = b""
    overlay: bytes = b""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the pictures."""
        return {"number": self.number, "of": self.of, "height_percent": self.height_percent, "attention": self.attention}


@dataclass(frozen=True)
class SeriesPrediction:
    """One series with what was measured in it and what the model made of it; fields as in ``prediction.json``."""

    series: str
    visit: int
    acquisition: dict[str, Any]
    findings: list[dict[str, str]]
    quantification: dict[str, float]
    columns: dict[str, float]
    probabilities: dict[str, float]
    slices: tuple[SeenSlice, ...]
    explanation: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    category: dict[str, Any] | None = None
    quantities: dict[str, Any] | None = None
    disagreement: float | None = None
    risks: dict[str, float] | None = None
    risk_uncertainty: dict[str, Any] | None = None
    pattern_slices: tuple[SeenSlice, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        numbers = {name: number_out(value) for name, value in self.quantification.items()}
        columns = {name: number_out(value) for name, value in self.columns.items()}
        regions = None if self.quantities is None else {name: _region_out(region) for name, region in self.quantities["regions"].items()}
        quantities = None if self.quantities is None else self.quantities | {"regions": regions}
        slices, patterns = [one.as_dict() for one in self.slices], [one.as_dict() for one in self.pattern_slices]
        told = {"quantification": numbers, "columns": columns, "quantities": quantities, "slices": slices, "pattern_slices": patterns}
        return {**self.__dict__, **told}


def _region_out(region: dict[str, Any]) -> dict[str, Any]:
    return region | {"percent": {part: number_out(value) for part, value in region["percent"].items()}}


@dataclass(frozen=True)
class Prediction:
    """All series of a patient, the headline first, and the release that was applied to them."""

    series: tuple[SeriesPrediction, ...]
    left_out: tuple[dict[str, Any], ...]
    model: dict[str, Any]
    change: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None

    @property
    def headline(self) -> SeriesPrediction:
        """The series to look at first."""
        return self.series[0]

    @property
    def warning(self) -> str | None:
        """The warning that must stand on top of every output, or None."""
        return WARNINGS.get(self.model["trained_on"])

    @property
    def cautions(self) -> list[str]:
        """Further reasons to doubt the output, as sentences."""
        return [*self._personal, *self._unfamiliar, *self._performance]

    @property
    def _personal(self) -> list[str]:
        if self.model["weights"] == "global":
            return []
        return [f"This is the personal model of {self.model['site']}. What is said of the release's performance is that of the global model."]

    @property
    def _unfamiliar(self) -> list[str]:
        if not (self.headline.calibration or {}).get("unfamiliar"):
            return []
        return ["This scan is unlike those that the model was trained on: the model has no ground to speak of this patient."]

    @property
    def _performance(self) -> list[str]:
        name = self.model["headline_metric"]
        cell = self.model["performance"].get(name)
        if not cell or cell.get("value") is None:
            return ["How good the model is on patients of a hospital that it was not trained on is not recorded."]
        if name.startswith(("auroc", "harrell_c")) and (cell["value"] if cell.get("low") is None else cell["low"]) <= 0.5:
            measure = "AUROC" if name.startswith("auroc") else "concordance"
            return [f"On the held-out hospital the model could not be told from guessing: its {measure} is compatible with 0.5."]
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``prediction.json``."""
        return {
            "format": FORMAT,
            "notice": NOTICE,
            "warning": self.warning,
            "cautions": self.cautions,
            "headline": self.headline.series,
            "series": [one.as_dict() for one in self.series],
            "reference": {name: found.as_dict() for name, found in REFERENCE.items()},
            "left_out": list(self.left_out),
            "change": self.change,
            "scores": self.scores,
            "model": self.model,
        }


def model_facts(bundle: Bundle, *, personal: str | None = None) -> dict[str, Any]:
    """Return what an output says about the release: its digests, what it was trained on, how good it is, its limits.

    And whose weights were applied: `personal` names the site whose personal model took the place of the released one.
    """
    card, experiment = bundle.card, bundle.experiment
    return {
        "software": version("fedild"),
        "bundle": bundle.digest,
        "weights": "global" if personal is None else "personal",
        "site": personal,
        "experiment": experiment.name,
        "experiment_digest": experiment.digest,
        "preparation_digest": experiment.preparation.digest,
        "model": experiment.model.name,
        "source": spec_of(experiment.model).source,
        "classes": [] if experiment.data.target == "survival" else list(experiment.data.classes),
        "horizons": list(experiment.data.horizons),
        "target": experiment.data.target,
        "trained_on": card.get("trained_on"),
        "training": card.get("training", {}),
        "intended_use": card.get("intended_use"),
        "headline_metric": experiment.evaluation.headline,
        "performance": card.get("performance_on_the_held_out_hospital") or card.get("performance") or {},
        "limits": card.get("limits", []),
    }
