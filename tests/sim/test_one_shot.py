"""The ensemble of hospitals that train alone: members in order, weights from held-out patients of every hospital, the mean by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared_models.core.choices import Choice
from shared_models.experiment import Data, Evaluation, Experiment
from sim.one_shot import calls_at_home, one_shot


def experiment(name: str | None) -> Experiment:
    ensemble = None if name is None else Choice(name=name)
    return Experiment(name="x", data=Data(classes=("a", "b")), model=Choice(name="linear"), evaluation=Evaluation(ensemble=ensemble))


def answer(y: np.ndarray, sureness: float) -> tuple[list[int], list[list[float]], list[str]]:
    p = np.where(np.eye(2)[y] == 1, sureness, 1 - sureness)
    return y.tolist(), p.tolist(), [f"p{i}" for i in range(len(y))]


Y = np.array([0, 1, 1, 0, 1, 0])


def test_without_a_choice_the_members_are_averaged() -> None:
    assert calls_at_home(experiment(None), [Path("s1"), Path("s2")], [Path("a"), Path("b")]) == []
    labels, p, names = one_shot(experiment(None), [answer(Y, 0.9), answer(Y, 0.3)], [])
    assert labels == Y.tolist() and len(names) == 6
    np.testing.assert_allclose(p, answer(Y, 0.6)[1])


@pytest.mark.parametrize("name", ["nnls", "caruana", "stacking"])
def test_weights_come_from_the_held_out_patients_of_all_hospitals(name: str) -> None:
    calls = calls_at_home(experiment(name), [Path("s1"), Path("s2")], [Path("a"), Path("b")])
    assert [(call[1], call[2], call[3]) for call in calls] == [(s, [site], "validation") for site in ("a", "b") for s in ("s1", "s2")]
    home = [answer(Y, 0.9), answer(Y, 0.4), answer(Y[:4], 0.8), answer(Y[:4], 0.45)]
    labels, p, _ = one_shot(experiment(name), [answer(Y, 0.9), answer(Y, 0.3)], home)
    assert (np.array(p).argmax(1) == labels).all() and np.array(p)[np.arange(6), Y].min() > 0.6
