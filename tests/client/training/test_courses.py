"""The transformer over visits finds what was planted: growth that kills, told by the later visits alone; and diagnoses by its second head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.selection import all_records
from client.site import Site
from client.training import PREDICTORS, diagnosis_probabilities
from client.training.gradient import fit_gradient
from client.training.records import Records
from client.training.rules import Plain
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.choices import apply_overrides, validated
from shared_models.experiment import Experiment
from shared_models.metrics.prognosis import score_prognosis
from shared_models.survival.hazards import HazardObjective
from sim.courses import write_hospital
from sim.experiments import find
from sim.hospital.preset import HospitalPreset
from sim.settings import Courses, simulation_of
from sim.zoo.visits import turned_round

SMALL = ["model.dropout=0.0", "train.epochs=20"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Records, Records]:
    """The planted recipe, smaller, and patients of two of its hospitals."""
    experiment, folder = find("longitudinal_planted", SMALL), tmp_path_factory.mktemp("courses")
    settings = simulation_of(experiment)
    assert isinstance(settings, Courses)
    presets = [HospitalPreset(**{**settings.defaults, "name": name, "patients": 900}) for name in ("alpha", "delta")]
    parts = [all_records(Site.load(write_hospital(preset, settings, folder, seed=3)), experiment) for preset in presets]
    return experiment, parts[0], parts[1]


def fitted(experiment: Experiment, train: Records) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    start = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=0)
    return fit_gradient(experiment, start, train, rule=Plain(), factor=1.0, seed=0).state


def concordance(experiment: Experiment, state: dict[str, np.ndarray], held: Records) -> float:
    risks = PREDICTORS["gradient"](experiment, state, held)
    assert (np.diff(risks, axis=1) >= 0).all() and risks.shape == (len(held), 2)
    return score_prognosis(held.outcome, risks, experiment.data.horizons, bootstrap=0)["harrell_c"]["value"]


def test_later_visits_tell_what_the_first_does_not(cohort: tuple[Experiment, Records, Records]) -> None:
    experiment, train, held = cohort
    document = apply_overrides(experiment.model_dump(mode="json", exclude_none=True), ["model.history=false"])
    first = validated(Experiment, document, what="first visit")
    state = fitted(experiment, train)
    assert concordance(experiment, state, held) - concordance(first, fitted(first, train), held) >= 0.08
    before = PREDICTORS["gradient"](experiment, state, held)
    turned = Records(turned_round(held.inputs, experiment, with_times=True), held.labels, held.names)
    np.testing.assert_allclose(PREDICTORS["gradient"](experiment, state, turned), before, atol=1e-5)
    known = np.asarray(held.targets) >= 0
    said = diagnosis_probabilities(experiment, state, held)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-6)
    assert (said.argmax(1) == held.targets)[known].mean() > 0.6  # of five, alike in number


def test_a_diagnosis_that_is_not_known_teaches_nothing() -> None:
    objective, logits = HazardObjective((1.0, 2.0), 3), torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    losses = objective(logits, torch.zeros(2), torch.tensor([[1.5, 1.0, -1.0], [1.5, 1.0, 2.0]], dtype=torch.float64))
    assert float((losses[1] - losses[0]).detach()) == pytest.approx(np.log(3))
    losses.sum().backward()
    assert logits.grad is not None and torch.count_nonzero(logits.grad[0, 2:]) == 0 and torch.count_nonzero(logits.grad[1, 2:]) == 3


def test_who_died_before_the_landmark_is_no_record(cohort: tuple[Experiment, Records, Records]) -> None:
    _, train, held = cohort
    assert 360 < len(train) < 900 and np.asarray(train.times).min() > 0 and train.patients == len(train)
    assert not set(train.names) & set(held.names)
