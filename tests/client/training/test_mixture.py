"""APFL's rule with numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from client.training.memory import Memory
from client.training.mixture import Apfl
from client.training.optimisers import sgd
from tests.server.quadratics import SPEC


def begun(rule: Apfl, weights: torch.Tensor) -> Apfl:
    rule.meet(torch.nn.ParameterDict({"w": weights.clone()}), SPEC, lambda: sgd(lr=0.5))
    rule.lay_out({"w": slice(0, 2)}, 2)
    rule.start(weights)
    return rule


def test_two_steps_by_hand(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "a", "run", 1)
    weights, rule = torch.tensor([1.0, 2.0]), Apfl(0.5, 0.1, memory)
    begun(rule, weights)
    rule.step = 1
    seen = []
    # v = w: the mixture is w; <v - w, g> = 0, alpha stays; v = (1, 2) - 0.5 * 0.5 * (4, 0) = (0, 2)
    rule.beside(weights, lambda at: seen.append(at.tolist()) or torch.tensor([4.0, 0.0]), 1.0)
    assert seen == [[1.0, 2.0]]
    assert rule.own.tolist() == [0.0, 2.0]
    rule.step = 2
    # m = (0.5, 2); v = (0, 2) - 0.5 * 0.5 * 0.5 * (-8, 8) with half the learning rate = (1, 1)
    rule.beside(weights, lambda at: seen.append(at.tolist()) or torch.tensor([-8.0, 8.0]), 0.5)
    assert seen[1] == [0.5, 2.0]
    assert rule.own.tolist() == [1.0, 1.0]
    rule.finish(weights, 1.0)
    again = begun(Apfl(0.5, 0.1, Memory(tmp_path, "a", "run", 2)), torch.tensor([3.0, 1.0]))
    again.step = 1
    # v - w = (-2, 0), m = (2, 1), g = (1, 5): alpha = 0.5 - 0.1 * -2 = 0.7; v steps with the share that it was mixed in with
    again.beside(torch.tensor([3.0, 1.0]), lambda at: torch.tensor([1.0, 5.0]) if at.tolist() == [2.0, 1.0] else at, 1.0)
    assert float(again.alpha) == pytest.approx(0.7)
    assert again.own.tolist() == [0.75, -0.25]


@pytest.mark.parametrize(("slope", "alpha"), [([-100.0, 0.0], 0.0), ([100.0, 0.0], 1.0)])
def test_the_share_stays_within_0_and_1(slope: list[float], alpha: float) -> None:
    rule = begun(Apfl(0.5, 0.1, None), torch.zeros(2))
    rule.own, rule.step = torch.tensor([-1.0, 0.0]), 1
    rule.beside(torch.zeros(2), lambda at: torch.tensor(slope), 1.0)
    assert float(rule.alpha) == alpha


def test_a_gradient_that_overflows_is_no_step() -> None:
    rule = begun(Apfl(0.5, 0.1, None), torch.zeros(2))
    rule.step = 1
    rule.beside(torch.zeros(2), lambda at: torch.tensor([float("inf"), 0.0]), 1.0)
    assert (rule.own.tolist(), float(rule.alpha)) == ([0.0, 0.0], 0.5)
