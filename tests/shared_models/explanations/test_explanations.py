"""One battery over EXPLANATIONS: shapes, what they must add up to, what they must not depend on, and hand-computed maps."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared_models.blocks.transformer import SelfAttention
from shared_models.core.choices import Choice, knobs_of, pick
from shared_models.core.errors import BadChoice, BadInput, FedILDError
from shared_models.explanations import EXPLANATIONS, applicable
from shared_models.explanations.attention import rollout
from shared_models.explanations.faithful import deletion_and_insertion, pointed
from shared_models.explanations.sanity import alike, mass_ratio, randomised
from shared_models.explanations.shapley import shapley
from shared_models.explanations.subject import Subject
from shared_models.networks.mil_cnn import mil_cnn
from shared_models.networks.patch_cnn import patch_cnn
from shared_models.networks.resnet import resnet18
from shared_models.networks.vit import vit

RNG = np.random.default_rng(0)


def softmax_of(network: nn.Module) -> Any:
    def predict(records: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return torch.softmax(network(torch.from_numpy(np.ascontiguousarray(records, np.float32))).double(), 1).numpy()

    return predict


def subject(network: nn.Module, record: np.ndarray, takes: Any, feature_map: str | None) -> Subject:
    return Subject(record.astype(np.float32), takes, softmax_of(network.eval()), network, feature_map)


def row(columns: int = 4) -> Subject:
    weights = RNG.normal(size=(3, columns))

    def predict(x: np.ndarray) -> np.ndarray:
        z = np.exp(x @ weights.T + x[:, :1] * x[:, 1:2])
        return z / z.sum(1, keepdims=True)

    return Subject(RNG.normal(size=columns), "table", predict, background=RNG.normal(size=columns))


def subjects() -> dict[str, Subject]:
    torch.manual_seed(0)
    return {
        "slices": subject(mil_cnn(1, 3, widths=(4, 8), features=8), RNG.random((3, 24, 20)), "slices", "encoder.maps"),
        "volume": subject(resnet18(1, 3, width=4), RNG.random((1, 16, 18, 20)), "volume", "layer2"),
        "tokens": subject(vit(1, 3, patch=6, width=8, depth=2, heads=2, grid=4), RNG.random((3, 24, 24)), "slices", "encoder.maps"),
        "patch": subject(patch_cnn(1, 3, width=4, bins=8, hidden=8), RNG.normal(-850, 60, (1, 21, 25)), "patch", "shape"),
        "table": row(),
    }


SUBJECTS = subjects()
QUICK: dict[str, dict[str, Any]] = {"integrated_gradients": {"steps": 8, "tolerance": 0.5}}
"""Knobs that make an explanation fast where its exactness is not the question."""
PAIRS = [(name, takes) for name in EXPLANATIONS for takes, one in SUBJECTS.items() if name in applicable(one)]


@pytest.mark.parametrize(("name", "takes"), PAIRS)
def test_the_battery(name: str, takes: str) -> None:
    spec, one = EXPLANATIONS[name], SUBJECTS[takes]
    assert spec.source and (inspect.getdoc(spec.function) or "").count("\n") > 3
    assert list(inspect.signature(spec.function).parameters)[:2] == ["subject", "label"]
    before = one.record.copy()
    explained = partial(spec.function, **QUICK.get(name, {}))
    heat = explained(one, 2)
    assert heat.shape == one.shape and heat.dtype == np.float64 and np.isfinite(heat).all()
    np.testing.assert_array_equal(one.record, before)
    np.testing.assert_array_equal(explained(one, 2), heat)  # nothing is left on the network, nothing is drawn
    if name not in ("attention",):
        assert not np.allclose(explained(one, 0), heat), "the class counts"
    with pytest.raises(BadChoice, match="no knob"):
        pick(EXPLANATIONS, Choice.model_validate({"name": name, "zzz": 1}), kind="explanation", get=lambda spec: spec.function)
    if one.network is not None:
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.network.modules())
        assert all(parameter.grad is None for parameter in one.network.parameters())


def test_every_explanation_applies_to_something_and_defaults_follow_the_table() -> None:
    assert {name for name, _ in PAIRS} == set(EXPLANATIONS)
    assert {takes: applicable(one)[0] for takes, one in SUBJECTS.items()} == {
        "slices": "grad_cam",
        "volume": "grad_cam",
        "tokens": "grad_cam",
        "patch": "grad_cam",
        "table": "shapley",
    }
    assert applicable(Subject(np.zeros(3), "table", lambda x: x)) == []


class Bright(nn.Module):
    """Class 1 is the mean of a ReLU map that sees one corner twice as brightly."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = self.maps(x).mean((1, 2, 3))
        return torch.stack([torch.zeros_like(level), level], 1)


def test_grad_cam_equals_the_formula_by_hand() -> None:
    image = RNG.normal(size=(1, 5, 4)).astype(np.float32)
    heat = EXPLANATIONS["grad_cam"].function(subject(Bright(), image, "patch", "maps"), 1)
    # d score / d map = 1/2 (centred over two classes) of 1/20; the map is what ReLU leaves
    np.testing.assert_allclose(heat, np.maximum(image[0], 0) / 40, rtol=1e-6)
    assert not EXPLANATIONS["grad_cam"].function(subject(Bright(), image, "patch", "maps"), 0).any()  # what speaks against is not shown
    with pytest.raises(BadInput, match="names its last feature map"):
        EXPLANATIONS["grad_cam"].function(subject(Bright(), image, "patch", None), 1)


@pytest.mark.parametrize("takes", ["slices", "patch"])
def test_integrated_gradients_add_up(takes: str) -> None:
    one = SUBJECTS[takes]
    parts = EXPLANATIONS["integrated_gradients"].function(one, 1, tolerance=0.02)
    difference = float(np.diff(one.scores(np.stack([np.array(one.absent), one.record]), 1))[0])
    assert parts.sum() == pytest.approx(difference, abs=0.02 * max(1, abs(difference)) + 1e-5)


def test_integrated_gradients_say_when_they_cannot() -> None:
    class Step(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            level = 40 * torch.tanh(1e6 * (x.mean((1, 2, 3)) - 0.3777))
            return torch.stack([torch.zeros_like(level), level], 1)

    image = np.array([[[0.0, 2.0]]])
    with pytest.raises(FedILDError, match="add up"):
        EXPLANATIONS["integrated_gradients"].function(subject(Step(), image, "patch", None), 1)


def test_occlusion_falls_where_the_score_stands() -> None:
    image = np.zeros((1, 12, 12))
    image[0, 8:, 8:] = 1
    heat = EXPLANATIONS["occlusion"].function(subject(Bright(), image, "patch", None), 1, size=4, stride=4)
    assert heat[9:, 9:].min() > 0 > heat[:8, :8].max()  # where it is dark the mean brightens it
    assert heat[8:, 8:].mean() == pytest.approx((1 - image.mean()) * 16 / 144 / 2)


@pytest.mark.parametrize("columns", [1, 4, 12])
def test_shapley_parts_add_up(columns: int) -> None:
    one = row(max(columns, 2))
    parts = shapley(one, 1, orders=6)
    whole = one.scores(np.stack([np.array(one.absent), one.record]), 1)
    assert parts.sum() == pytest.approx(whole[1] - whole[0], abs=1e-9)


@pytest.mark.parametrize("columns", [5, 15])
def test_shapley_of_a_linear_model_is_weight_times_distance(columns: int) -> None:
    weights = RNG.normal(size=(3, columns))
    x, background = RNG.normal(size=(2, columns))

    def predict(rows: np.ndarray) -> np.ndarray:
        z = np.exp(rows @ weights.T)
        return z / z.sum(1, keepdims=True)

    parts = shapley(Subject(x, "table", predict, background=background), 2, orders=2)
    np.testing.assert_allclose(parts, (weights[2] - weights.mean(0)) * (x - background), atol=1e-9)


def test_random_orders_come_to_the_exact_values() -> None:
    from shared_models.explanations import shapley as module

    one = row(6)
    exact = shapley(one, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_EXACT", 2)
        drawn = shapley(one, 0, orders=400)
    np.testing.assert_allclose(drawn, exact, atol=0.05)
    assert np.abs(drawn - exact).max() > 0  # it did draw


def test_rollout_of_two_layers_by_hand() -> None:
    first, second = np.array([[[0.0, 1.0], [0.5, 0.5]]]), np.array([[[1.0, 0.0], [1.0, 0.0]]])
    one = 0.5 * first[0] + 0.5 * np.eye(2)
    two = 0.5 * second[0] + 0.5 * np.eye(2)
    np.testing.assert_allclose(rollout([first, second])[0], two @ one)
    with pytest.raises(BadInput, match="same tokens"):
        rollout([first, np.ones((1, 3, 3)) / 3])


class Transformer(nn.Module):
    """Quarters of a 16 x 16 slice as tokens behind a class token, whose attention is made to lie on one quarter."""

    def __init__(self, favourite: int) -> None:
        super().__init__()
        self.favourite = favourite
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        tokens = torch.zeros(slices.shape[0] * slices.shape[1], 5, 8)
        mask = torch.zeros(5, 5)
        mask[0, 1 + self.favourite] = 9.0
        out, _ = self.attention(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
        return self.head(out[:, 0].unflatten(0, slices.shape[:2]).mean(1))


@pytest.mark.parametrize("favourite", range(4))
def test_rollout_lies_where_the_class_token_looks(favourite: int) -> None:
    torch.manual_seed(0)
    heat = EXPLANATIONS["attention"].function(subject(Transformer(favourite), RNG.random((2, 16, 16)), "slices", None), 1)
    quarters = heat.reshape(2, 2, 8, 2, 8).mean((2, 4)).reshape(2, 4)
    assert (quarters.argmax(1) == favourite).all() and heat.sum() == pytest.approx(1)
    assert quarters[0, favourite] > 3 * np.delete(quarters[0], favourite).max()


class Reader(nn.Module):
    """Class 1 is how bright one quarter of a 16 x 16 slice is, read through self-attention that looks at all quarters alike."""

    def __init__(self, favourite: int) -> None:
        super().__init__()
        self.favourite, self.attention = favourite, SelfAttention(5, 1)
        with torch.no_grad():
            for parameter in self.attention.parameters():
                parameter.zero_()
            self.attention.ask.weight[10:] = torch.eye(5)
            self.attention.out.weight.copy_(torch.eye(5))

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        bright = slices.unflatten(2, (2, 8)).unflatten(4, (2, 8)).mean((3, 5)).flatten(0, 1).flatten(1)
        tokens = torch.cat([torch.zeros(len(bright), 1, 5), torch.diag_embed(bright, dim1=1, dim2=2) @ torch.eye(4, 5)], dim=1)
        read = self.attention(tokens)[0][:, 0, self.favourite].unflatten(0, slices.shape[:2]).mean(1)
        return torch.stack([torch.zeros_like(read), read], 1)


@pytest.mark.parametrize("favourite", range(4))
def test_relevance_lies_where_the_class_is_read_though_attention_lies_everywhere(favourite: int) -> None:
    record = RNG.random((2, 16, 16)) + 0.5
    one = subject(Reader(favourite), record, "slices", None)
    heat = EXPLANATIONS["attention_relevance"].function(one, 1)
    quarters = heat.reshape(2, 2, 8, 2, 8).mean((2, 4)).reshape(2, 4)
    # d score / d attention of the class token to the quarter: its brightness / 2 slices / 2 (centred over classes), times the attention 1/5
    bright = record.reshape(2, 2, 8, 2, 8).mean((2, 4)).reshape(2, 4)[:, favourite]
    assert (quarters.argmax(1) == favourite).all()
    np.testing.assert_allclose(heat.reshape(2, 256).max(1), bright / 20, rtol=1e-5)
    assert not EXPLANATIONS["attention_relevance"].function(one, 0).any()  # what speaks against is not shown
    even = EXPLANATIONS["attention"].function(one, 1).reshape(2, 2, 8, 2, 8).mean((2, 4))
    np.testing.assert_allclose(even, even.mean(), rtol=1e-6)


def test_no_attention_is_said() -> None:
    with pytest.raises(BadInput, match="attention reaches the score"):
        EXPLANATIONS["attention_relevance"].function(SUBJECTS["volume"], 1)
    with pytest.raises(BadInput, match="network with attention"):
        EXPLANATIONS["attention"].function(SUBJECTS["volume"], 1)


def test_a_random_network_shares_nothing_but_its_shape() -> None:
    network = mil_cnn(1, 2, widths=(4, 8), features=8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    place = torch.get_rng_state()
    other = randomised(network, seed=3)
    assert torch.equal(torch.get_rng_state(), place)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    moved = [key for key, value in other.state_dict().items() if not torch.equal(value, before[key])]
    assert {key for key, value in before.items() if value.dim() > 1} <= set(moved)
    again = randomised(network, seed=3).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in other.state_dict().items())


def test_alike_and_mass_ratio() -> None:
    a = RNG.random((5, 6))
    assert alike(a, np.exp(a)) == 1 and alike(a, -a) == -1
    assert alike(a, np.zeros_like(a)) == 0
    heat, inside = np.array([2.0, 4.0, -1.0, 3.0]), np.array([True, True, False, False])
    assert mass_ratio(heat, inside, np.ones(4, bool)) == 2.0
    with pytest.raises(BadInput, match="outside"):
        mass_ratio(heat, inside, inside)


def test_the_hottest_place_in_the_lungs_is_the_one_that_points() -> None:
    heat, inside, lungs = np.array([1.0, 2.0, 2.0, 7.0]), np.array([False, True, False, True]), np.array([True, True, True, False])
    assert pointed(heat, inside, lungs) == 0.5, "of two hottest places one lies outside"
    assert pointed(heat, inside, np.array([True, True, False, False])) == 1 and pointed(-heat, inside, lungs) == 0
    with pytest.raises(BadInput, match="look at"):
        pointed(heat, inside, np.zeros(4, bool))


def test_what_the_answer_hangs_on_first_is_worth_most() -> None:
    weights = np.array([4.0, 0.0, 2.0, 1.0])

    def predict(x: np.ndarray) -> np.ndarray:
        told = x @ weights / weights.sum()
        return np.column_stack([1 - told, told])

    one = Subject(np.ones(4), "table", predict, background=np.zeros(4))
    by_hand = [4 / 7, 6 / 7, 1.0, 1.0]  # what is in after each of four places, most important first
    best = deletion_and_insertion(one, 1, weights, steps=4)
    assert best.insertion == pytest.approx((sum(by_hand) - 0.5) / 4)
    assert best.deletion == pytest.approx(1 - best.insertion)
    for order in (-weights, np.arange(4.0), np.zeros(4)):
        other = deletion_and_insertion(one, 1, order, steps=4)
        assert other.insertion < best.insertion and other.deletion > best.deletion
    with pytest.raises(BadInput, match="shape"):
        deletion_and_insertion(one, 1, np.zeros(3))


def test_knobs_are_bounded() -> None:
    for name, spec in EXPLANATIONS.items():
        for knob in knobs_of(spec.function):
            with pytest.raises(BadChoice):
                pick(EXPLANATIONS, Choice.model_validate({"name": name, knob: -7}), kind="explanation", get=lambda spec: spec.function)
