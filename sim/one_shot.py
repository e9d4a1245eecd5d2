"""The one-shot ensemble: every hospital trains alone, sends its model once, and the models vote. What many rounds must beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.choices import Choice, look_up, pick
from shared_models.ensembles import ENSEMBLES
from shared_models.ensembles.spec import fit_ensemble
from shared_models.experiment import Experiment

ONE_SHOT = "one_shot_ensemble"

Answer = Sequence[Any]
"""Labels, probabilities and names, as `sim.tasks.predictions` gives them."""


def calls_at_home(experiment: Experiment, states: Sequence[Path], sites: Sequence[Path]) -> list[tuple[str, str, list[str], str]]:
    """Return the predictions that the ensemble's weights are fitted on: every member on every hospital's held-out patients, hospital by hospital.

    None where nothing is fitted. No member was trained on any of these patients.
    """
    if not look_up(ENSEMBLES, _choice(experiment).name, kind="ensemble").rounds:
        return []
    text = experiment.for_sites().to_json()
    return [(text, str(state), [str(site)], "validation") for site in sites for state in states]


def one_shot(experiment: Experiment, members: Sequence[Answer], at_home: Sequence[Answer]) -> tuple[list[int], list[list[float]], list[str]]:
    """Return labels, the ensemble's probabilities and names of the patients whom `members` have predicted.

    Parameters
    ----------
    experiment : Experiment
        Its ``evaluation.ensemble``.
    members : sequence
        Each member's answer on the same patients.
    at_home : sequence
        The answers to `calls_at_home`.
    """
    choice, count = _choice(experiment), len(members)
    ensemble = pick(ENSEMBLES, choice, kind="ensemble", get=lambda spec: spec.build)(count, len(experiment.data.classes))
    hospitals = [at_home[first : first + count] for first in range(0, len(at_home), count)]
    sites = [(np.array([answer[1] for answer in answers]), np.array(answers[0][0], np.int64)) for answers in hospitals if answers[0][0]]
    state = fit_ensemble(ensemble, ENSEMBLES[choice.name].rounds if sites else 0, sites)
    labels, _, names = members[0]
    return list(labels), ensemble.predict(state, np.array([answer[1] for answer in members])).tolist(), list(names)


def _choice(experiment: Experiment) -> Choice:
    return experiment.evaluation.ensemble or Choice(name="mean")
