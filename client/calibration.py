"""What the fitted calibrations of a release make of a site's patients: the rows on which the next one is fitted, and what is said of a new one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from client.privacy.support import few
from client.training import PREDICTORS
from client.training.records import Records
from shared_models.calibration.conformal import Conformal
from shared_models.calibration.operating_point import OperatingPoint
from shared_models.calibration.spec import CalibrationSpec
from shared_models.calibration.unfamiliar import Unfamiliar
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.experiment import Experiment
from shared_models.phases import Phase, calibrations_of, fit_of, trained
from shared_models.representation import represent

LEAST = 1e-12
"""Probabilities below this are taken for it: a forest may give 0."""


@dataclass(frozen=True)
class Calibrated:
    """What calibrations say of one patient, beside the probabilities that they change.

    Parameters
    ----------
    classes : tuple of str or None
        The prediction set; None without ``conformal``.
    coverage : dict or None
        ``wanted``, and the bounds ``least`` and ``most`` of the probability that such a set holds the true class, from ``patients`` held out.
    distance, threshold : float or None
        Of the representation from that of the training patients, and from where on a patient is unfamiliar; None without ``unfamiliar``.
    temperature : float or None
        By which logits were divided; None without ``temperature``.
    operating_point : dict or None
        ``label``, its ``probability``, the frozen ``threshold``, whether it is ``exceeded``, and ``[patients on the right side, all]`` for
        ``specificity`` and ``sensitivity`` among those whom it was chosen on; None without ``operating_point``.
    """

    classes: tuple[str, ...] | None = None
    coverage: dict[str, float] | None = None
    distance: float | None = None
    threshold: float | None = None
    temperature: float | None = None
    operating_point: dict[str, Any] | None = None

    @property
    def unfamiliar(self) -> bool:
        """Whether the patient is unlike those of the federation."""
        return self.distance is not None and self.threshold is not None and self.distance > self.threshold

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "unfamiliar": self.unfamiliar if self.distance is not None else None}


def logits_of(experiment: Experiment, state: State, records: Records, *, before: int | None = None) -> np.ndarray:
    """Return logarithms of probabilities (n, classes) as the calibrations leave them; `before` counts those that are known, by default all."""
    probabilities = PREDICTORS[spec_of(experiment.model).fit](experiment, state, records)
    logits = np.log(np.maximum(probabilities, LEAST))
    for choice, fit in list(zip(experiment.calibration or (), calibrations_of(experiment), strict=True))[:before]:
        logits = fit.seen(fit_of(state, choice.name, after=True), logits)
    return logits


def representation_of(experiment: Experiment, state: State, records: Records) -> np.ndarray:
    """Return the representation of each record, float64 (n, width); of a table its rows."""
    spec = spec_of(experiment.model)
    if spec.representation is None:
        return np.asarray(records.inputs, np.float64)
    import torch

    from client.training.gradient import network_of

    network, parts = network_of(experiment, trained(state)), []
    with torch.inference_mode():
        for start in range(0, len(records), 32):
            batch = torch.from_numpy(np.ascontiguousarray(records.inputs[start : start + 32], np.float32))
            parts.append(represent(network, spec.representation, batch).double().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1))


def calibration_records(split: tuple[Records, Records], state: State, phase: Phase, round: int) -> Records:
    """Return one record a patient on which a calibration is fitted in `round`: its inputs are logits or representations under `state`.

    Parameters
    ----------
    split : tuple of Records
        The site's training and held-out records as the model sees them.
    state : State
        Of the run: the trained model, and the calibrations that are known.
    phase : Phase
        Of the calibration.
    round : int
        One of its rounds.
    """
    spec, number, experiment = cast("CalibrationSpec", phase.spec), phase.number, phase.settings
    records = split[spec.held_out[round - phase.first]].first_of_each()
    if len(records) == 0:
        rows = np.zeros((0, _width(phase, state)))
    elif spec.reads == "logits":
        rows = logits_of(experiment, state, records, before=number)
    else:
        rows = representation_of(experiment, state, records)
    return Records(rows, records.labels, records.names, records.identified)


def refuse_small_cells(phase: Phase, contribution: State, least: int) -> None:
    """Refuse a contribution in which a cell tells of few patients.

    Raises
    ------
    Refused
        E_FEW_CASES.
    """
    spec = phase.spec
    cells = contribution[spec.cells] if isinstance(spec, CalibrationSpec) and spec.cells is not None else np.zeros(0)
    if ((cells > 0) & (cells < least)).any():
        raise few()


def calibrated(experiment: Experiment, state: State, records: Records) -> tuple[np.ndarray, Calibrated]:
    """Return the probabilities (classes,) of the one record as the calibrations leave them, and what else they say of it."""
    logits = logits_of(experiment, state, records)
    said: dict[str, Any] = {}
    for choice, fit in zip(experiment.calibration or (), calibrations_of(experiment), strict=True):
        own = fit_of(state, choice.name, after=True)
        if isinstance(fit, Conformal):
            inside = fit.sets(own, logits)[0]
            said["classes"] = tuple(name for name, held in zip(experiment.data.classes, inside, strict=True) if held)
            said["coverage"] = {"wanted": fit.coverage} | {key: float(own[key][0]) for key in ("least", "most", "patients")}
        elif isinstance(fit, Unfamiliar):
            said["distance"] = float(fit.distances(own, representation_of(experiment, state, records))[0])
            said["threshold"] = float(own["threshold"][0])
        elif isinstance(fit, OperatingPoint):
            told = {"label": experiment.data.classes[fit.label], "probability": float(fit.scores(logits)[0]), "threshold": float(own["threshold"][0])}
            said["operating_point"] = told | {"exceeded": bool(fit.calls(own, logits)[0])} | {k: list(v) for k, v in fit.shares(own).items()}
        elif "beta" in own:
            said["temperature"] = 1 / float(own["beta"][0])
    if not experiment.calibration:
        return PREDICTORS[spec_of(experiment.model).fit](experiment, state, records)[0], Calibrated()
    p = np.exp(logits[0] - logits[0].max())
    return p / p.sum(), Calibrated(**said)


def _width(phase: Phase, state: State) -> int:
    fit = phase.changed(state)
    return len(fit["mean"]) if "mean" in fit else len(phase.settings.data.classes)
