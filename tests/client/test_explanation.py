"""A small network trained on phantoms: its explanations lie on the planted disease, depend on what was learnt, and land where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.explanation import background_of, explain, on_slices, subject_of
from client.training import FITTERS
from client.training.records import Records, slice_numbers, slices_of, volume_of
from client.training.rules import Plain
from shared_models.bundle import Bundle
from shared_models.catalogue import MODELS, initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.experiment import Data, Experiment, Inputs, Train
from shared_models.explanations import EXPLANATIONS
from shared_models.explanations.faithful import deletion_and_insertion, pointed
from shared_models.explanations.sanity import alike, mass_ratio, randomised
from sim.phantom.patient import make_phantom

GRID_MM = 6.0
INPUTS = Inputs(slices=8, size=32, mask_outside=True)
MODEL = Choice.model_validate({"name": "mil_cnn", "widths": (8, 16), "features": 16, "bins": 8, "position": False, "dropout": 0.0})
OPTIMISER = Choice.model_validate({"name": "adamw", "lr": 5e-3})
EXPERIMENT = Experiment(
    name="planted",
    data=Data(classes=("normal", "OP")),
    inputs=INPUTS,
    model=MODEL,
    train=Train(batch=8, optimiser=OPTIMISER, schedule="constant"),
)
TRAINED, NEW = 18, 4
"""Phantoms to learn from, half of them with 2 % of consolidation, and new ones with it."""


def prepared(hu: np.ndarray, lung: np.ndarray) -> Prepared:
    return Prepared(Volume(np.asarray(hu, np.float32), (GRID_MM,) * 3), np.asarray(lung > 0, np.uint8))


def phantom(seed: int, ill: bool) -> tuple[Prepared, Prepared]:
    """A patient, and the planted disease as an image on the same grid."""
    made = make_phantom("OP" if ill else "normal", seed=seed, grid_mm=GRID_MM, extents={"consolidation": 2.0} if ill else {})
    lung = made.lung[::-1]
    return prepared(made.hu[::-1], lung), prepared(made.labels[::-1] > 0, lung)


@pytest.fixture(scope="module")
def trained() -> Bundle:
    ill = np.arange(TRAINED) % 2
    bags = np.stack([slices_of(phantom(seed, bool(ill[seed]))[0], INPUTS) for seed in range(TRAINED)])
    bags, labels = np.concatenate([bags, bags[..., ::-1]]), np.tile(ill, 2)
    records = Records(bags, labels.astype(np.int64), tuple(map(str, range(len(bags)))))
    state = initial_state(MODEL, inputs=1, outputs=2, seed=0)
    for seed in range(25):
        state = FITTERS["gradient"](EXPERIMENT, state, records, rule=Plain(), factor=1.0, seed=seed).state
    return Bundle(state, EXPERIMENT, {}, "")


@pytest.fixture(scope="module")
def new() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Bags of new patients, with the disease and the lung as the network's own pixels."""
    whole = INPUTS.model_copy(update={"window_hu": (0.0, 1.0)})
    found = []
    for seed in range(100, 100 + NEW):
        patient, disease = phantom(seed, True)
        lung = prepared(np.asarray(patient.mask), np.asarray(patient.mask))
        found.append((slices_of(patient, INPUTS), slices_of(disease, whole) > 0.5, slices_of(lung, whole) > 0.5))
    return found


@pytest.mark.parametrize(("name", "least"), [("grad_cam", 1.5), ("attention", 1.5), ("integrated_gradients", 1.5)])
def test_the_map_lies_on_planted_disease_and_a_random_network_has_another(
    trained: Bundle, new: list[tuple[np.ndarray, np.ndarray, np.ndarray]], name: str, least: float
) -> None:
    ratios, likeness, by_chance, hits, gains = [], [], [], [], []
    for bag, disease, lung in new:
        subject = subject_of(trained, bag)
        assert subject.network is not None and subject.scores(bag[None], 1)[0] > 0, "the patient is told rightly"
        heat = EXPLANATIONS[name].function(subject, 1)
        ratios.append(mass_ratio(heat, disease, lung))
        hits.append(pointed(heat, disease, lung) - disease[lung].mean())
        areas = deletion_and_insertion(subject, 1, heat, steps=8)
        gains.append(areas.insertion - areas.deletion)
        for seed in range(3):
            other = EXPLANATIONS[name].function(replace(subject, network=randomised(subject.network, seed=seed)), 1)
            likeness.append(alike(heat, other))
            by_chance.append(mass_ratio(other, disease, lung))
    assert np.mean(ratios) >= least, np.round(ratios, 2)
    assert np.mean(ratios) > np.mean(by_chance) + 0.3 or name == "integrated_gradients"  # gradients times values follow the values
    assert np.mean(likeness) < 0.5, np.round(likeness, 2)
    assert np.mean(hits) > 0, np.round(hits, 2)
    assert np.mean(gains) > 0, np.round(gains, 2)


def test_explain_chooses_what_applies_and_says_how_alike_chance_is(trained: Bundle, new: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    patient, _ = phantom(100, True)
    found = explain(trained, new[0][0], 1, method="auto", prepared=patient)
    assert found is not None and (found.method, found.label) == ("grad_cam", "OP")
    assert found.alike is not None and -1 <= found.alike < 0.5
    assert set(found.planes) == set(slice_numbers(np.asarray(patient.mask), 8).tolist())
    assert max(plane.max() for plane in found.planes.values()) == 1 and all(
        plane.shape == patient.volume.hu.shape[1:] for plane in found.planes.values()
    )
    assert explain(trained, new[0][0], 1, method="none") is None
    with pytest.raises(BadInput, match=r"shapley must apply.*grad_cam"):
        explain(trained, new[0][0], 1, method="shapley")
    with pytest.raises(BadInput, match="did you mean 'grad_cam'"):
        explain(trained, new[0][0], 1, method="gradcam")


@pytest.mark.parametrize("takes", ["slices", "volume"])
@pytest.mark.parametrize("spacing", [(3.0, 2.0, 2.0), (5.0, 1.0, 1.6)])
def test_what_was_cut_out_is_laid_back_where_it_was(takes: str, spacing: tuple[float, float, float]) -> None:
    hu = np.full((30, 60, 70), -1000, np.float32)
    mask = np.zeros(hu.shape, np.uint8)
    mask[4:26, 8:40, 20:66] = 1
    hu[4:26, 14:26, 46:60] = 200
    study = Prepared(Volume(hu, spacing), mask)
    inputs = Inputs(slices=6, size=40, shape_zyx=(22, 32, 46), margin_mm=4, window_hu=(-1000, 200))
    spec = MODELS["mil_cnn" if takes == "slices" else "resnet18"]
    seen = slices_of(study, inputs) if takes == "slices" else volume_of(study, inputs)[0]
    planes = on_slices(seen, study, spec, inputs)
    assert set(planes) == set(slice_numbers(mask, 6).tolist()) if takes == "slices" else len(planes) == 4
    for number, plane in planes.items():
        assert 4 <= number < 26
        there = np.argwhere(plane > 0.5)
        np.testing.assert_allclose(there.min(0), (14, 46), atol=1.5)
        np.testing.assert_allclose(there.max(0), (25, 59), atol=1.5)


def test_a_table_is_divided_among_its_columns() -> None:
    experiment = EXPERIMENT.model_copy(update={"model": Choice(name="logistic"), "inputs": Inputs(columns=("a", "b", "c"))})
    weights = np.random.default_rng(0).normal(size=(2, 4))
    state = {"mean": np.array([1.0, 2.0, 3.0]), "scale": np.array([1.0, 2.0, 4.0]), "coefficients": weights, "ready": np.ones(1)}
    row = np.array([2.0, 2.0, 9.0])
    found = explain(Bundle(state, experiment, {}, ""), row, 1, method="auto")
    assert found is not None and found.method == "shapley" and found.alike is None and not found.planes
    exact = (weights[1] - weights.mean(0))[:3] * (row - state["mean"]) / state["scale"]
    np.testing.assert_allclose(list(found.columns.values()), exact, atol=1e-9)
    assert background_of({"w": np.zeros(3)}, row) is None
    linear = experiment.model_copy(update={"model": Choice(name="linear")})
    bundle = Bundle(initial_state(linear.model, inputs=3, outputs=2, seed=0), linear, {}, "")
    assert explain(bundle, row, 1, method="auto") is None  # nobody knows what an absent value is
