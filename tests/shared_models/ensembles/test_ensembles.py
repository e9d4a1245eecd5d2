"""One battery over ENSEMBLES: sums over sites give the pooled fit, no member is worse than all, and nobody is weighed by what it knows by heart."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls as slow_nnls

from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadCohort, BadState
from shared_models.ensembles import ENSEMBLES
from shared_models.ensembles.spec import fit_ensemble, refuse_in_fold

MEMBERS, CLASSES = 4, 3


def predictions(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Members that see the truth through noise of their own, from good to worthless."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    told = 2.0 * np.eye(CLASSES)[y]
    logits = np.stack([signal * told + rng.normal(size=(count, CLASSES)) for signal in (1.0, 0.8, 0.6, 0.0)])
    p = np.exp(logits)
    return p / p.sum(2, keepdims=True), y


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(y)), y]).mean())


def build(name: str, **knobs: object) -> Any:
    return pick(ENSEMBLES, Choice.model_validate({"name": name, **knobs}), kind="ensemble", get=lambda spec: spec.build)(MEMBERS, CLASSES)


@pytest.mark.parametrize("name", sorted(ENSEMBLES))
class TestBattery:
    def test_sites_together_equal_one_place(self, name: str) -> None:
        ensemble, rounds = build(name), ENSEMBLES[name].rounds
        p, y = predictions(300, 1)
        one = fit_ensemble(ensemble, rounds, [(p, y)])
        many = fit_ensemble(ensemble, rounds, [(p[:, part], y[part]) for part in np.split(np.arange(300), [40, 130, 130])])
        assert one.keys() == many.keys()
        for key in one:
            np.testing.assert_allclose(many[key], one[key], rtol=1e-7, atol=1e-9)

    def test_it_predicts_better_than_the_mean_of_its_members(self, name: str) -> None:
        ensemble = build(name)
        state = fit_ensemble(ensemble, ENSEMBLES[name].rounds, [predictions(400, seed) for seed in (2, 3)])
        p, y = predictions(1500, 9)
        found = ensemble.predict(state, p)
        assert found.shape == (1500, CLASSES) and np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
        members = [log_loss(one, y) for one in p]
        assert log_loss(found, y) <= np.mean(members)
        if ENSEMBLES[name].rounds:
            assert log_loss(found, y) <= min(members) + 0.005
        assert ensemble.predict(state, p[:, :0]).shape == (0, CLASSES)

    def test_knobs_source_and_nobody(self, name: str) -> None:
        spec = ENSEMBLES[name]
        assert spec.source and inspect.getdoc(spec.build)
        with pytest.raises(BadChoice, match="no knob"):
            build(name, zzz=1)
        if spec.rounds:
            with pytest.raises(BadState, match="weighed by patients"):
                fit_ensemble(build(name), spec.rounds, [predictions(0, 1)])


def test_least_squares_from_sums_are_those_of_all_predictions() -> None:
    p, y = predictions(200, 4)
    weights, _ = slow_nnls(p.reshape(MEMBERS, -1).T, np.eye(CLASSES)[y].ravel())
    found = fit_ensemble(build("nnls"), 1, [(p[:, ::2], y[::2]), (p[:, 1::2], y[1::2])])["weights"]
    np.testing.assert_allclose(found, weights / weights.sum(), atol=1e-8)
    twice = np.concatenate([p, p])  # members that are the same: no single answer, but one prediction
    ensemble = ENSEMBLES["nnls"].build(2 * MEMBERS, CLASSES)
    state = fit_ensemble(ensemble, 1, [(twice, y)])
    np.testing.assert_allclose(ensemble.predict(state, twice), build("nnls").predict({"weights": found}, p), atol=1e-6)


def test_selection_takes_what_trying_everything_takes() -> None:
    p, y = predictions(80, 6)
    ensemble, state = build("caruana"), build("caruana").start()
    for step in range(1, 4):
        state = ensemble.combine(state, [ensemble.contribution(state, p, y)])
        assert state["taken"].sum() == step
    best = min(itertools.combinations_with_replacement(range(MEMBERS), 1), key=lambda some: log_loss(p[list(some)].mean(0), y))
    first = ensemble.combine(ensemble.start(), [ensemble.contribution(ensemble.start(), p, y)])
    assert int(first["taken"].argmax()) == best[0]


def test_the_mean_of_logits_is_the_normalised_geometric_mean() -> None:
    p, _ = predictions(5, 7)
    expected = np.prod(p, 0) ** (1 / MEMBERS)
    np.testing.assert_allclose(build("mean", of="logit").predict({}, p), expected / expected.sum(1, keepdims=True))


def test_in_fold_predictions_would_win_and_are_refused() -> None:
    p, y = predictions(200, 8)
    poisoned = p.copy()
    poisoned[3] = 0.98 * np.eye(CLASSES)[y] + 0.02 / CLASSES  # the worthless member has learnt these patients by heart
    assert fit_ensemble(build("nnls"), 1, [(poisoned, y)])["weights"][3] > 0.9 > fit_ensemble(build("nnls"), 1, [(p, y)])["weights"][3]
    with pytest.raises(BadCohort, match="found 1; use out-of-fold"):
        refuse_in_fold([f"patient {i}" for i in range(200)], [set(), set(), {"another"}, {"patient 7"}])
