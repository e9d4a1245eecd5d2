"""MOON: the representation of every network, the contrast by hand, and in every way of finding a private gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.training.contrast import Moon
from client.training.gradient import fit_gradient
from client.training.memory import Memory
from client.training.optimisers import sgd
from client.training.per_unit import GRAD_SAMPLERS
from client.training.private import fit_private
from client.training.records import Records
from shared_models.blocks.losses import cross_entropy
from shared_models.blocks.representation import watching
from shared_models.blocks.spec import ModelSpec
from shared_models.catalogue import MODELS, build, initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.randomness import SecretRandom
from shared_models.core.state import digest
from tests.client.sites import patch_experiment
from tests.shared_models.tiny import TINY, shape_of

GRADIENT = sorted(name for name, spec in MODELS.items() if spec.fit == "gradient" and spec.objective is None)
SPEC = ModelSpec(nn.Identity, takes="table", fit="gradient", source="", loss=cross_entropy, representation="1")


@pytest.mark.parametrize("name", GRADIENT)
def test_every_network_has_the_representation_that_it_names_or_is_refused(name: str) -> None:
    spec = MODELS[name]
    network = build(Choice.model_validate({"name": name, **TINY.get(name, {})}), inputs=shape_of(name)[0] if spec.takes == "table" else 1, outputs=2)
    if spec.representation is None:
        with pytest.raises(BadChoice, match="network that has one"):
            Moon(1.0, 0.5, None).meet(network, spec, sgd)
        return
    records = torch.rand(2, *(shape_of(name) if spec.takes != "patch" else (1, *shape_of(name)[1:])))
    with torch.no_grad():
        for parameter in network.parameters():  # a head may start from nothing, and reads no representation then
            parameter.add_(0.01 * torch.randn_like(parameter))
    with watching(network, spec.representation) as seen:
        logits = network(records)
    assert seen.inputs is records
    assert seen.representation.ndim == 2
    assert len(seen.representation) == len(records)
    assert seen.representation.requires_grad
    (gradient,) = torch.autograd.grad(logits.sum(), seen.representation)
    assert gradient.abs().sum() > 0  # the classifier reads it
    assert not network._forward_pre_hooks


def remembered(folder: Path, network: nn.Module, **knobs: float) -> Moon:
    Memory(folder, "a", "run", 1).keep({f"previous/{key}": value.numpy(force=True) for key, value in network.state_dict().items()})
    return Moon(knobs.get("mu", 2.0), knobs.get("tau", 0.5), Memory(folder, "a", "run", 2))


def linear(rows: list[list[float]]) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor(rows))
        network[1].weight.copy_(torch.eye(2))
    return network


def test_the_contrast_by_hand(tmp_path: Path) -> None:
    network = linear([[1.0, 0.0], [0.0, 1.0]])
    rule = remembered(tmp_path, linear([[0.0, -1.0], [1.0, 0.0]]))  # a quarter turn
    rule.meet(network, SPEC, sgd)
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0, -1.0], [1.0, 0.0]]))  # the network has gone where it was before
    inputs, labels = torch.tensor([[3.0, 0.0], [0.0, 5.0]]), torch.zeros(2, dtype=torch.long)
    with rule.watching(network):
        logits = network(inputs)
    # cosines: 0 with the global model, 1 with the last one; -log(e^0 / (e^0 + e^(1 / 0.5))) = log(1 + e^2)
    both = rule.loss(cross_entropy)(logits, labels)
    torch.testing.assert_close(both, cross_entropy(logits, labels) + 2.0 * math.log(1 + math.e**2))
    both.sum().backward()
    assert all(value.grad is None for other in rule.others for value in other.parameters())


def test_the_first_round_adds_nothing(tmp_path: Path) -> None:
    rule = Moon(2.0, 0.5, Memory(tmp_path, "a", "run", 1))
    rule.meet(linear([[1.0, 0.0], [0.0, 1.0]]), SPEC, sgd)
    assert rule.loss(cross_entropy) is cross_entropy


def test_a_memory_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadState):
        remembered(tmp_path, nn.Linear(3, 2)).meet(linear([[1.0, 0.0], [0.0, 1.0]]), SPEC, sgd)


EXPERIMENT = patch_experiment()
START = initial_state(EXPERIMENT.model, inputs=1, outputs=2, seed=0)


def records_of(count: int) -> Records:
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 40, (count, 1, 15, 15)).astype(np.float32)
    return Records(hu, np.arange(count) % 2, tuple(f"p{number}" for number in range(count)))


def test_training_goes_towards_the_global_representation(tmp_path: Path) -> None:
    records = records_of(40)
    other = initial_state(EXPERIMENT.model, inputs=1, outputs=2, seed=5)
    Memory(tmp_path, "a", "run", 1).keep({f"previous/{key}": value for key, value in other.items()})
    fitted = {}
    for mu in (0.0, 10.0):
        rule = Moon(mu, 0.5, Memory(tmp_path, "a", "run", 2))
        fitted[mu] = fit_gradient(EXPERIMENT, START, records, rule=rule, factor=1.0, seed=1).state
    plain = fit_gradient(EXPERIMENT, START, records, rule=Moon(1.0, 0.5, None), factor=1.0, seed=1).state
    assert digest(fitted[0.0]) == digest(plain)

    def nearness(state: dict[str, np.ndarray], to: dict[str, np.ndarray]) -> float:
        made = []
        for one in (state, to):
            network = build(EXPERIMENT.model, inputs=1, outputs=2).eval()
            network.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in one.items()})
            with torch.no_grad(), watching(network, "head") as seen:
                network(torch.from_numpy(records.inputs))
            made.append(seen.representation)
        return float(torch.cosine_similarity(*made).mean())

    assert nearness(fitted[10.0], START) - nearness(fitted[10.0], other) > nearness(fitted[0.0], START) - nearness(fitted[0.0], other)


def test_under_privacy_the_contrast_is_clipped_by_patient_in_every_way_alike(tmp_path: Path) -> None:
    records = records_of(60)
    other = initial_state(EXPERIMENT.model, inputs=1, outputs=2, seed=5)
    Memory(tmp_path, "a", "run", 1).keep({f"previous/{key}": value for key, value in other.items()})
    train = replace_dropout(EXPERIMENT.model_dump(exclude_none=True))
    states: dict[str, list[np.ndarray]] = {}
    for sampler in GRAD_SAMPLERS:
        for mu in (0.0, 5.0):
            document = {**train, "privacy": {"unit": "patient", "noise_multiplier": 1e-3, "clip": 1.0, "delta": 1e-4, "grad_sample": sampler}}
            experiment = type(EXPERIMENT).model_validate(document)
            spends: list[Any] = []
            rule = Moon(mu, 0.5, Memory(tmp_path, "a", "run", 2))
            fitted = fit_private(experiment, START, records, rule=rule, factor=1.0, seed=1, spend=spends.append, secret=SecretRandom(b"k" * 32))
            assert replace(spends[0], nonce="") == replace(spends[0], nonce="", steps=fitted.steps)
            states.setdefault(str(mu), []).append(np.concatenate([value.reshape(-1) for value in fitted.state.values()]))
    for found in states.values():
        np.testing.assert_allclose(found[0], found[1], atol=2e-5)
    assert np.abs(states["0.0"][0] - states["5.0"][0]).max() > 1e-3


def replace_dropout(document: dict[str, Any]) -> dict[str, Any]:
    """Without dropout and augmentation: samplers draw them in different orders."""
    return {**document, "model": {**document["model"], "dropout": 0.0}, "train": {**document["train"], "augment": [], "steps": 4}}
