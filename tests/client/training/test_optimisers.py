"""The flat network and its optimisers against PyTorch's own, step for step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.training.flat import FlatModel
from client.training.optimisers import OPTIMISERS
from client.training.rules import rule_of
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadState


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


X, Y = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3


def loss_of(model: nn.Module) -> torch.Tensor:
    return nn.functional.cross_entropy(model(X), Y)


def built(name: str, **knobs: Any) -> Any:
    return pick(OPTIMISERS, Choice.model_validate({"name": name, **knobs}), kind="optimiser")()


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("sgd", {"lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
    ("sgd", {"lr": 0.1, "momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    ("sgd", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, weight_decay=0.05)),
    ("adamw", {"lr": 0.01}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.01)),
    (
        "adamw",
        {"lr": 0.01, "beta_1": 0.8, "beta_2": 0.9, "eps": 1e-6, "weight_decay": 0.2},
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2),
    ),
]


@pytest.mark.parametrize(("name", "knobs", "theirs"), CASES)
@pytest.mark.parametrize("block", [1 << 16, 37], ids=["one block", "many blocks"])
def test_twenty_steps_equal_pytorchs(name: str, knobs: dict[str, Any], theirs: Any, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.optimisers.BLOCK", block)
    flat, other = FlatModel(network()), network()
    ours, reference = built(name, **knobs), theirs(other.parameters())
    for _ in range(20):
        flat.backward(loss_of(flat.model))
        ours.step(flat.weights, flat.gradient, 1.0)
        reference.zero_grad()
        loss_of(other).backward()
        reference.step()
    for key, value in other.state_dict().items():
        np.testing.assert_allclose(flat.state()[key], value.numpy(), rtol=1e-4, atol=2e-6)
    assert loss_of(other) < loss_of(network()) - 0.1


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_factor_scales_the_learning_rate(name: str) -> None:
    flats = [FlatModel(network()), FlatModel(network())]
    for flat, lr, factor in zip(flats, (0.02, 0.01), (0.5, 1.0), strict=True):
        optimiser = built(name, lr=lr)
        for _ in range(3):
            flat.backward(loss_of(flat.model))
            optimiser.step(flat.weights, flat.gradient, factor)
    torch.testing.assert_close(flats[0].weights, flats[1].weights)


@pytest.mark.parametrize("knobs", [{"lr": 0}, {"lr": -1}, {"momentum": 1.0}, {"weight_decay": -0.1}])
def test_knobs_out_of_range(knobs: dict[str, Any]) -> None:
    with pytest.raises(BadChoice):
        built("sgd", **knobs)


class TestFlatModel:
    def test_parameters_and_gradients_are_views(self) -> None:
        model = network()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        flat = FlatModel(model)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, before[key])
        loss_of(network()).backward()
        plain = network()
        loss_of(plain).backward()
        flat.backward(loss_of(model))
        flat.backward(loss_of(model))  # a second call does not add to the first
        wanted = torch.cat([p.grad.reshape(-1) for p in plain.parameters() if p.grad is not None])
        torch.testing.assert_close(flat.gradient, wanted)
        flat.weights.zero_()
        assert not any(p.any() for p in model.parameters())

    def test_states_come_back_and_are_copies(self) -> None:
        flat, state = FlatModel(network(1)), FlatModel(network(2)).state()
        flat.load(state)
        again = flat.state()
        assert all((again[key] == state[key]).all() for key in state)
        again["4.bias"][:] = 99
        assert not (flat.state()["4.bias"] == 99).any()

    def test_other_keys_and_shapes(self) -> None:
        flat = FlatModel(network())
        state = flat.state()
        for bad in ({}, {**state, "x": np.zeros(1)}, {**state, "4.bias": np.zeros(4, np.float32)}, {**state, "4.bias": np.zeros((), np.float32)}):
            with pytest.raises(BadState):
                flat.load(bad)

    def test_parameters_of_two_types(self) -> None:
        with pytest.raises(BadState, match="one type"):
            FlatModel(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double()))


class TestRules:
    def test_fedprox_is_the_gradient_of_its_proximal_term(self) -> None:
        flat, anchored = FlatModel(network()), network()
        rule, factor = rule_of({"name": "fedprox", "mu": 0.3, "lr_factor": 0.25}, {})
        assert factor == 0.25
        rule.start(flat.weights)
        flat.weights.add_(0.1)
        flat.backward(loss_of(flat.model))
        rule.correct(flat.weights, flat.gradient)
        start = [p.detach().clone() for p in anchored.parameters()]
        with torch.no_grad():
            for p in anchored.parameters():
                p.add_(0.1)
        proximal = sum(((p - s) ** 2).sum() for p, s in zip(anchored.parameters(), start, strict=True))
        (loss_of(anchored) + 0.3 / 2 * proximal).backward()
        wanted = torch.cat([p.grad.reshape(-1) for p in anchored.parameters() if p.grad is not None])
        torch.testing.assert_close(flat.gradient, wanted, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("numbers", [{"name": "plain"}, {}, {"lr_factor": 1.0}])
    def test_the_plain_rule_changes_nothing(self, numbers: dict[str, Any]) -> None:
        rule, factor = rule_of(numbers, {})
        gradient = torch.ones(3)
        rule.start(torch.zeros(3))
        rule.correct(torch.ones(3), gradient)
        assert factor == 1.0
        assert gradient.tolist() == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize("numbers", [{"name": "rm -rf"}, {"name": "fedprox"}, {"name": "fedprox", "mu": -1}, {"name": "plain", "path": "/etc"}])
    def test_rules_that_are_none(self, numbers: dict[str, Any]) -> None:
        with pytest.raises(BadChoice):
            rule_of(numbers, {})
