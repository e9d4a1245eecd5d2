"""One battery over CALIBRATIONS, and each against the slow obvious way on all patients in one place."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from shared_models.calibration import CALIBRATIONS
from shared_models.calibration.cells import counted, quantile, without_few
from shared_models.calibration.conformal import conformal
from shared_models.calibration.temperature import temperature
from shared_models.core.choices import Choice, pick
from shared_models.core.errors import BadChoice, BadState

WIDTH = 3


def patients(count: int, seed: int, sureness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose truth is as likely as their softmax says, made `sureness` times too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, WIDTH)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (rng.random(count)[:, None] > np.cumsum(p, 1)).sum(1)
    return sureness * logits, np.minimum(y, WIDTH - 1)


def fitted(name: str, sites: list[tuple[np.ndarray, np.ndarray]], **knobs: Any) -> tuple[Any, dict[str, np.ndarray]]:
    spec = CALIBRATIONS[name]
    fit = pick(CALIBRATIONS, Choice.model_validate({"name": name, **knobs}), kind="calibration", get=lambda spec: spec.build)(WIDTH)
    state = fit.start(WIDTH)
    for _ in range(spec.rounds):
        parts = [fit.contribution(state, x, y, seed=0) for x, y in sites]
        for part in parts:
            fit.check(part, state)
        state = fit.combine(state, parts, [1.0] * len(parts))
    return fit, state


def shared(count: int = 600, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = patients(count, seed, 2.0)
    cuts = np.split(np.arange(count), [count // 6, count // 2])
    return [(x[part], y[part]) for part in cuts]


@pytest.mark.parametrize("name", sorted(CALIBRATIONS))
class TestBattery:
    def test_layout_seed_and_source(self, name: str) -> None:
        spec = CALIBRATIONS[name]
        fit, state = fitted(name, shared())
        start = fit.start(WIDTH)
        assert {key: (value.shape, value.dtype) for key, value in start.items()} == {key: (value.shape, value.dtype) for key, value in state.items()}
        assert all(np.isfinite(value).all() for value in (*start.values(), *state.values()))
        assert spec.source and spec.rounds >= 1 and inspect.getdoc(spec.build)
        with pytest.raises(BadChoice, match="no knob"):
            pick(CALIBRATIONS, Choice.model_validate({"name": name, "zzz": 1}), kind="calibration", get=lambda spec: spec.build)

    def test_the_total_alone_gives_the_fit(self, name: str) -> None:
        fit, state = fitted(name, shared())
        x, y = patients(300, 5)
        parts = [fit.contribution(state, x[i::3], y[i::3], seed=0) for i in range(3)]
        total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
        one, other = fit.combine(state, parts, [1.0] * 3), fit.combine(state, [total], [3.0])
        for key in one:
            np.testing.assert_allclose(one[key], other[key], rtol=1e-9, atol=1e-12)

    def test_malformed_sums_are_refused(self, name: str) -> None:
        fit, state = fitted(name, shared())
        x, y = patients(40, 2)
        good = fit.contribution(state, x, y, seed=0)
        key = sorted(good)[0]
        bad = [
            {},
            {**good, "more": np.zeros(1)},
            {**good, key: good[key][..., None]},
            {**good, "n": np.array([-1.0])},
            {**good, "n": np.array([np.nan])},
        ]
        for other in bad:
            with pytest.raises(BadState):
                fit.check(other, state)

    def test_no_cell_with_few_patients_leaves(self, name: str) -> None:
        spec = CALIBRATIONS[name]
        if spec.cells is None:
            return
        fit, state = fitted(name, shared(), least=7)
        for count in (3, 12, 45):
            cells = fit.contribution(state, *patients(count, count), seed=0)[spec.cells]
            assert not ((cells > 0) & (cells < 7)).any()


def log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    z = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize("sureness", [0.3, 1.0, 4.0])
def test_temperature_is_that_of_all_patients_in_one_place(sureness: float) -> None:
    x, y = patients(900, 3, sureness)
    fit, state = fitted("temperature", [(x[:100], y[:100]), (x[100:450], y[100:450]), (x[450:], y[450:])])
    pooled = minimize_scalar(lambda beta: log_loss(beta * x, y), bounds=(0.01, 20), method="bounded", options={"xatol": 1e-8}).x
    assert state["beta"][0] == pytest.approx(pooled, rel=1e-4)
    assert 1 / state["beta"][0] == pytest.approx(sureness, rel=0.15)
    assert log_loss(fit.seen(state, x), y) <= log_loss(x, y) + 1e-12
    np.testing.assert_allclose(np.exp(fit.seen(state, x)).sum(1), 1)
    np.testing.assert_array_equal(fit.seen(state, x).argmax(1), x.argmax(1))


def test_temperature_stays_in_bounds_when_all_are_right() -> None:
    x = np.array([[3.0, 0.0, 0.0]] * 20)
    _, state = fitted("temperature", [(x, np.zeros(20, int))] * 3)
    assert 1 < state["beta"][0] <= 20 and np.isfinite(state["beta"]).all()
    assert fitted("temperature", [(x[:0], np.zeros(0, int))])[1]["beta"][0] == 1


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.7, 0.85])
def test_sets_hold_the_truth_as_often_as_they_say(score: str, coverage: float) -> None:
    sureness = 2.5 if score == "lac" else 1.0  # far too sure: sets do not mind, but cells of cumulated probabilities near 1 tell nothing apart
    held, new = patients(1500, 11, sureness), patients(4000, 12, sureness)
    fit, state = fitted("conformal", [tuple(part[i::5] for part in held) for i in range(5)], score=score, coverage=coverage)  # type: ignore[misc]
    sets = fit.sets(state, new[0])
    found = sets[np.arange(4000), new[1]].mean()
    assert coverage <= state["least"][0] <= state["most"][0] <= 1
    assert state["least"][0] - 0.03 <= found <= state["most"][0] + 0.03
    assert sets.any(1).all() and sets[np.arange(4000), new[0].argmax(1)].all()
    assert sets.mean() < 0.95 and state["patients"][0] == 1500


def test_the_threshold_is_that_of_all_patients_but_for_the_cells() -> None:
    x, y = patients(1000, 21)
    fit, state = fitted("conformal", [(x[i::4], y[i::4]) for i in range(4)], cells=1000, least=1)
    scores = np.sort(fit.scores(x)[np.arange(1000), y])
    exact = scores[math.ceil(1001 * 0.9) - 1]
    assert exact <= state["threshold"][0] <= exact + 1 / 1000


def test_scores_by_hand() -> None:
    logits = np.log([[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(conformal(3).scores(logits), [[0.0, 0.7, 0.8]])
    np.testing.assert_allclose(conformal(3, score="aps").scores(logits), [[0.0, 0.8, 1.0]])


def test_too_few_patients_give_all_classes() -> None:
    fit, state = fitted("conformal", [patients(8, 1)])
    assert state["threshold"][0] == 1 and fit.sets(state, patients(50, 2)[0]).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=14), st.integers(1, 9))
def test_moving_patients_up_is_safe_and_bounded(counts: list[int], least: int) -> None:
    before = np.array(counts)
    after = without_few(before, least)
    assert (after >= 0).all() and not ((after > 0) & (after < least)).any()
    if before.sum() < least:
        assert not after.any()
        return
    assert after.sum() == before.sum()
    moved = np.cumsum(before) - np.cumsum(after)
    assert moved.min() >= 0 and moved.max() <= 2 * (least - 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=20), st.floats(0.5, 0.99))
def test_quantiles_against_counting(counts: list[int], coverage: float) -> None:
    edges = np.arange(len(counts) + 1.0)
    scores = np.sort(np.repeat(edges[1:], counts))
    found, n = quantile(np.array(counts), edges, coverage), len(scores)
    rank = math.ceil((n + 1) * coverage - 1e-9)
    if rank > n:
        assert found.threshold == math.inf
    else:
        assert found.threshold == scores[rank - 1] and coverage - 1e-9 <= found.least <= found.most <= 1


def test_cells_hold_their_upper_edge() -> None:
    edges = np.linspace(0, 1, 11)
    scores = np.random.default_rng(0).random(500)
    slow = [int(((scores > low) & (scores <= high)).sum()) for low, high in pairwise(edges)]
    assert counted(scores, edges).tolist() == slow


def test_a_temperature_changes_no_set_of_ranks() -> None:
    x, _ = patients(30, 4)
    fit = temperature(WIDTH)
    np.testing.assert_array_equal(np.argsort(fit.seen({"beta": np.array([0.2])}, x), 1), np.argsort(x, 1))
