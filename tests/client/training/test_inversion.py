"""Update inversion works on updates in clear and fails on what noise or masks cover: else it could not say anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from client.training.inversion import HU_RANGE, compare, gradient_in, invert, private_gradient, update_in_clear
from client.training.records import Records
from shared_models.catalogue import MODELS, initial_state, inputs_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.core.randomness import SecretRandom
from shared_models.experiment import Experiment
from sim.masked_message import masked_gradient

PEOPLE = 24
SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "linear": ({}, (8,)),
    "patch_cnn": ({"width": 8, "bins": 8, "hidden": 16, "dropout": 0.0}, (1, 15, 15)),
    "mil_cnn": ({"widths": [8, 8], "features": 16, "bins": 8, "dropout": 0.0}, (3, 16, 16)),
}


def experiment_of(name: str) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "inversion",
            "data": {"classes": ["a", "b"], "kind": "patches" if name == "patch_cnn" else "studies"},
            "inputs": {"columns": [f"c{number}" for number in range(8)] if name == "linear" else []},
            "model": {"name": name, **SHAPES[name][0]},
            "privacy": {"unit": "patient", "noise_multiplier": 1.0},
        }
    )


def people_of(name: str) -> Records:
    rng, shape = np.random.default_rng(0), SHAPES[name][1]
    x = rng.normal(0, 1, (PEOPLE, *shape))
    if len(shape) > 1:
        x = ndimage.gaussian_filter(x, (0, 0, 1.5, 1.5))
        x = (x - x.min()) / np.ptp(x)
    if MODELS[name].units == "hu":
        x = 1600 * x - 1000
    return Records(x.astype(np.float32), rng.integers(0, 2, PEOPLE), tuple(f"p{number}" for number in range(PEOPLE)))


def state_of(name: str) -> State:
    experiment = experiment_of(name)
    return initial_state(experiment.model, inputs=inputs_of(experiment), outputs=2, seed=0)


def message(name: str, kind: str, number: int) -> State:
    experiment, people, state = experiment_of(name), people_of(name), state_of(name)
    if kind == "noise":
        return private_gradient(experiment, state, people.take([number]), secret=SecretRandom(bytes([number]) * 32))
    updates = {f"s{who}": update_in_clear(experiment, state, people.take([who])) for who in (number, number + 1, number + 2)}
    if kind == "masks":
        return masked_gradient(experiment, state, updates, site=f"s{number}")
    return gradient_in(state, updates[f"s{number}"])


def attacked(name: str, kind: str, victims: int, iterations: int = 1) -> Any:
    experiment, people, state = experiment_of(name), people_of(name), state_of(name)
    found = [
        invert(experiment, state, message(name, kind, v), shape=people.inputs.shape[1:], label=int(people.labels[v]), iterations=iterations, seed=v)
        for v in range(victims)
    ]
    return compare(found, list(range(victims)), people.inputs)


def test_a_linear_layer_gives_its_input_away() -> None:
    found = attacked("linear", "clear", 12)
    assert (found.recognised, found.works) == (12, True)
    assert found.similarity > 0.999
    assert abs(found.baseline) < 0.2


@pytest.mark.parametrize("kind", ["noise", "masks"])
def test_noise_and_masks_keep_it(kind: str) -> None:
    found = attacked("linear", kind, 12)
    assert not found.works
    assert found.similarity < 0.5
    assert found.words().startswith("fails: recognised")


def test_the_search_finds_what_a_network_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, people = experiment_of("mil_cnn"), people_of("mil_cnn")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 24), nn.Tanh(), nn.Linear(24, 2))
    monkeypatch.setattr("client.training.inversion.network_of", lambda experiment, state: network)
    found = []
    for number in range(3):
        loss = nn.functional.cross_entropy(network(torch.from_numpy(people.inputs[[number]])), torch.from_numpy(people.labels[[number]]))
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        gradient = {name: slope.numpy().astype(np.float64) for (name, _), slope in zip(network.named_parameters(), slopes, strict=True)}
        label = int(people.labels[number])
        found.append(invert(experiment, {}, gradient, shape=people.inputs.shape[1:], label=label, iterations=200, seed=number))
    answer = compare(found, [0, 1, 2], people.inputs)
    assert answer.works
    assert answer.similarity > 0.8


@pytest.mark.parametrize("name", ["patch_cnn", "mil_cnn"])
def test_the_search_runs_on_networks_of_images(name: str) -> None:
    spec, seen = MODELS[name], {}
    for kind in ("clear", "noise", "masks"):
        experiment, people = experiment_of(name), people_of(name)
        gradient = message(name, kind, 0)
        found = invert(experiment, state_of(name), gradient, shape=people.inputs.shape[1:], label=int(people.labels[0]), iterations=10, seed=0)
        low, high = HU_RANGE if spec.units == "hu" else (0.0, 1.0)
        assert found.shape == people.inputs.shape[1:]
        assert low <= found.min() <= found.max() <= high
        seen[kind] = found
    assert not np.allclose(seen["clear"], seen["noise"])
    assert not np.allclose(seen["clear"], seen["masks"])


def test_sums_are_no_gradients() -> None:
    document = experiment_of("linear").model_dump(exclude_none=True) | {"model": {"name": "logistic"}}
    with pytest.raises(BadChoice, match="where it is a gradient"):
        invert(Experiment.model_validate(document), {}, {}, shape=(8,), label=0, iterations=1, seed=0)
