"""The frozen operating point on a hospital that had no part in choosing it: whom it calls positive, and how often rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from client.calibration import logits_of
from shared_models.calibration.operating_point import OperatingPoint
from shared_models.core.files import read_state
from shared_models.experiment import Experiment
from shared_models.metrics.intervals import wilson
from shared_models.phases import calibrations_of, fit_of
from sim.pool import Pool

POINT = "operating_point"


def has_point(experiment: Experiment) -> bool:
    """Say whether the experiment freezes an operating point."""
    return any(choice.name == POINT for choice in experiment.calibration or ())


def point_of(experiment: Experiment) -> OperatingPoint:
    """Return the experiment's operating point with its knobs."""
    return next(fit for fit in calibrations_of(experiment) if isinstance(fit, OperatingPoint))


def called(experiment: str, state: str, sites: list[str]) -> tuple[list[int], list[bool], list[float], list[str]]:
    """Return labels, who is called positive, the calibrated probability of the class, and pseudonyms, over all patients of sites."""
    from sim.tasks import records_at

    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    records = records_at(sites, settings, whole).first_of_each()
    fit, logits = point_of(settings), logits_of(settings, whole, records)
    return records.labels.tolist(), fit.calls(fit_of(whole, POINT, after=True), logits).tolist(), fit.scores(logits).tolist(), list(records.names)


def point_cells(labels: np.ndarray, positive: np.ndarray, label: int) -> dict[str, dict[str, Any]]:
    """Return sensitivity and specificity at the point as cells of ``metrics.json``, with Wilson's 95 % interval; None where nobody counts.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class numbers, one patient each.
    positive : ndarray of bool, shape (n,)
        Who is called positive.
    label : int
        The class that is looked for.

    Examples
    --------
    >>> cells = point_cells(np.array([1, 1, 0, 0, 2]), np.array([True, False, False, False, True]), 1)
    >>> [(name, round(cell["value"], 3), cell["n"]) for name, cell in cells.items()]
    [('sensitivity_at_operating_point', 0.5, 2), ('specificity_at_operating_point', 0.667, 3)]
    """
    has = np.asarray(labels) == label
    right = {"sensitivity": np.asarray(positive)[has], "specificity": ~np.asarray(positive)[~has]}
    cells = {}
    for name, hits in right.items():
        low, high = wilson(int(hits.sum()), len(hits)) or (None, None)
        value = float(hits.mean()) if len(hits) else None
        cells[f"{name}_at_{POINT}"] = {"value": value, "low": low, "high": high, "n": len(hits)}
    return cells


def judge_point(experiment: Experiment, state: Path, sites: list[str], pool: Pool) -> dict[str, dict[str, Any]]:
    """Return `point_cells` of all patients of sites under a saved state; nothing where no operating point is frozen."""
    if not has_point(experiment):
        return {}
    ((labels, positive, *_),) = pool.map("sim.operating", "called", [(experiment.for_sites().to_json(), str(state), sites)])
    return point_cells(np.array(labels), np.array(positive), point_of(experiment).label)
