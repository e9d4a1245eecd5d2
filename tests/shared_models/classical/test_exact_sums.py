"""One battery over every model of sums: however patients lie at sites, whoever misses a round, in clear or through the secure sum, the
federation finds the model that the same patients in one place give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared_models.catalogue import MODELS, build
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.state import is_finite
from shared_models.experiment import Data, Experiment, Federation
from shared_models.metrics.survival import harrell_rows
from shared_models.secure_sum.vector import Part, decode, encode

NAMES = sorted(name for name, spec in MODELS.items() if spec.fit == "sums")
SMALL: dict[str, dict[str, Any]] = {
    "boosting": {"trees": 3, "depth": 2, "bins": 8},
    "kmeans": {"clusters": 4, "steps": 4},
    "rbf": {"centres": 5, "steps": 3},
    "rbf_pso": {"particles": 3, "generations": 2, "most_units": 5, "steps": 1},
    "survival_boosting": {"times": [2.0, 4.0, 8.0], "trees": 3, "depth": 2, "bins": 8, "min_leaf": 5},
    "svm": {"features": 32},
    "texture_kernel": {"features": 16},
    "weighted_ensemble": {"members": [{"name": "lda"}, {"name": "kmeans", "clusters": 4, "steps": 2}], "folds": 3, "fit_rounds": 4, "choices": 2},
}
"""Knobs that make a model small; a model without a line here is tested as it is."""
ROUNDS: dict[str, int] = {"boosting": 9, "rbf_pso": 9, "survival_boosting": 9}
"""Rounds that reach every kind of sums of a model, where 6 do not."""
CLASSES = ("a", "b", "c")
COUNT = 90
SPLITS = ([30, 55], [1, 2, 80], [0, 10, 10, 89], [45])
"""Where the list of patients is cut into sites: even, tiny and large, an empty one, two halves."""


def experiment_of(name: str) -> Experiment:
    spec = MODELS[name]
    data = {"kind": "patches" if spec.takes == "patch" else "table", "target": spec.task}
    return Experiment(
        name="exact",
        data=Data.model_validate({**data, **({"classes": CLASSES} if spec.task == "diagnosis" else {})}),
        model=Choice.model_validate({"name": name, **SMALL.get(name, {})}),
        federation=Federation.model_validate({"quorum": 3, "secure_sum": True}),
    )


def model_of(name: str) -> Any:
    experiment = experiment_of(name)
    return build(experiment.model, inputs=4 if MODELS[name].takes == "table" else 1, outputs=len(experiment.data.classes))


def patients(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping groups in columns of unlike sizes (or as patches in HU), and what is to be learnt of them."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, COUNT)
    if MODELS[name].takes == "patch":
        return (rng.normal(-850, 40, (COUNT, 1, 9, 9)) + 60 * y[:, None, None, None]).astype(np.float32), y
    middles = np.array([[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0]])[y]
    x = (rng.normal(0, 1, (COUNT, 4)) + middles) * [1, 50, 0.01, 3] + [0, 1000, 5, -2]
    if MODELS[name].task == "survival":
        time = np.ceil(6 * rng.exponential(np.exp(0.7 * (y - 1))))
        return x, np.column_stack([time, rng.random(COUNT) < 0.7, np.zeros(COUNT)])
    return x, y


def sites_of(name: str, cuts: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = patients(name)
    parts = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
    if MODELS[name].task == "survival":  # what was put together in one place stays strata there
        parts = [(a, np.column_stack([b[:, :2], np.full(len(b), number)])) for number, (a, b) in enumerate(parts)]
    return parts


def summed(name: str, sums: list[State]) -> list[State]:
    """The one total that a server reads from masked words: the words add up modulo 2^64."""
    experiment = experiment_of(name)
    words = [encode(Part(state, 1, {}), None, experiment, sites=len(sums)) for state in sums]
    total = {key: np.sum([word[key] for word in words], axis=0, dtype=words[0][key].dtype) for key in words[0]}
    return [decode(total, None, experiment, sites=len(sums)).state]


def fitted(name: str, cuts: list[int], *, missing: int | None = None, pooled: bool = False, masked: bool = False) -> State:
    """The state after all rounds; site number `missing` takes no part in rounds 2 and 3."""
    model, sites = model_of(name), sites_of(name, cuts)
    state = model.start(seed=3)
    for number in range(1, ROUNDS.get(name, 6) + 1):
        here = [site for place, site in enumerate(sites) if place != missing or number not in (2, 3)]
        if pooled:
            here = [(np.concatenate([x for x, _ in here]), np.concatenate([y for _, y in here]))]
        sums = [model.contribution(state, x, y, seed=number) for x, y in here]
        sums = summed(name, sums) if masked else sums
        for contribution in sums:
            model.check(contribution, state)
        state = model.combine(state, sums, [float(len(x)) for x, _ in here][: len(sums)])
    return state


def assert_one_model(name: str, ours: State, theirs: State) -> None:
    assert ours.keys() == theirs.keys()
    assert is_finite(ours)
    for key in ours:
        size = max(1.0, float(np.abs(theirs[key]).max(initial=0)))
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-8, atol=1e-8 * size, err_msg=key)
    x = patients(name)[0]
    np.testing.assert_allclose(model_of(name).predict(ours, x), model_of(name).predict(theirs, x), atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
class TestEveryModelOfSums:
    @pytest.mark.parametrize("cuts", SPLITS, ids=str)
    def test_any_spread_over_sites_gives_the_pooled_fit(self, name: str, cuts: list[int]) -> None:
        assert_one_model(name, fitted(name, cuts), fitted(name, cuts, pooled=True))

    def test_a_site_that_misses_rounds_is_missing_in_them_alone(self, name: str) -> None:
        assert_one_model(name, fitted(name, [30, 55], missing=1), fitted(name, [30, 55], missing=1, pooled=True))

    def test_through_the_secure_sum_it_is_the_same_fit(self, name: str) -> None:
        assert_one_model(name, fitted(name, [1, 2, 40, 80], masked=True), fitted(name, [1, 2, 40, 80], pooled=True))

    def test_it_learns(self, name: str) -> None:
        model, (x, y) = model_of(name), patients(name)
        start, end = model.start(seed=3), fitted(name, [30, 55])
        if MODELS[name].task == "survival":
            outcomes = np.concatenate([outcome for _, outcome in sites_of(name, [30, 55])])
            worse, better = (harrell_rows(outcomes, model.predict(state, x)[:, 0], np.ones((1, COUNT)))[0] for state in (start, end))
            assert worse == 0.5 and better > 0.6
            return
        assert (model.predict(end, x).argmax(1) == y).mean() > max(0.6, (model.predict(start, x).argmax(1) == y).mean())
