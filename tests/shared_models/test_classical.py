"""Models without gradients: the federation gives the pooled fit, forests read as scikit-learn reads them, and malformed ones are refused."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from shared_models.classical.forest import forest
from shared_models.classical.logistic import logistic
from shared_models.classical.texture_kernel import texture_kernel
from shared_models.core.errors import BadState


def table(seed: int, count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (count, 4)) * [1, 50, 0.01, 3] + [0, 1000, 5, -2]
    score = (x - x.mean(0)) / x.std(0)
    y = np.argmax(np.column_stack([score[:, 0], score[:, 1], 0.3 * score[:, 2] + 0.5]) + rng.gumbel(size=(count, 3)), 1)
    return x, y


def federated(x: np.ndarray, y: np.ndarray, bounds: list[int], rounds: int = 12, ridge: float = 1.0) -> dict[str, np.ndarray]:
    model = logistic(4, 3, ridge=ridge)
    state = model.start(seed=0)
    parts = list(zip(np.split(x, bounds), np.split(y, bounds), strict=True))
    for _ in range(rounds):
        sums = [model.contribution(state, a, b, seed=0) for a, b in parts]
        for contribution in sums:
            model.check(contribution, state)
        state = model.combine(state, sums, [float(len(a)) for a, _ in parts])
    return state


class TestLogistic:
    @pytest.mark.parametrize("bounds", [[50, 100], [1, 2], [10, 10, 149], [20]])
    def test_any_spread_over_sites_gives_the_pooled_fit(self, bounds: list[int]) -> None:
        x, y = table(1)
        pooled, spread = federated(x, y, []), federated(x, y, bounds)
        for key in pooled:
            np.testing.assert_allclose(spread[key], pooled[key], rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0])
    def test_it_is_the_fit_of_scikit_learn(self, ridge: float) -> None:
        x, y = table(2)
        model = logistic(4, 3, ridge=ridge)
        state = federated(x, y, [70], ridge=ridge)
        scaled = (x - x.mean(0)) / x.std(0)
        theirs = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(scaled, y)
        np.testing.assert_allclose(model.predict(state, x), theirs.predict_proba(scaled), atol=1e-4)

    def test_a_column_that_never_changes_and_a_class_nobody_has(self) -> None:
        x, y = table(3)
        x[:, 2] = 7.0
        y[y == 2] = 0
        state = federated(x, y, [60])
        p = logistic(4, 3).predict(state, x)
        assert np.isfinite(p).all()
        assert p[:, 2].max() < 0.05

    def test_extreme_rows_do_not_overflow(self) -> None:
        x, y = table(4)
        state = federated(x, y, [])
        assert np.isfinite(logistic(4, 3).predict(state, x * 1e6)).all()

    @pytest.mark.parametrize("key", ["n", "sum", "squares", "gradient", "hessian"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_sums_that_are_not_finite(self, key: str, value: float) -> None:
        model, contribution = self._contribution()
        contribution[key].flat[0] = value
        with pytest.raises(BadState):
            model.check(contribution, model.start(seed=0))

    @pytest.mark.parametrize("change", [("n", -5.0), ("squares", -1.0), ("hessian", -50.0)])
    def test_sums_that_no_patients_can_have(self, change: tuple[str, float]) -> None:
        model, contribution = self._contribution()
        contribution[change[0]].flat[0] = change[1]
        with pytest.raises(BadState):
            model.check(contribution, model.start(seed=0))

    def test_a_hessian_that_would_stop_the_newton_step(self) -> None:
        model, contribution = self._contribution()
        contribution["hessian"] = -np.diag(np.full(15, 1.0))
        with pytest.raises(BadState, match="semidefinite"):
            model.check(contribution, model.start(seed=0))

    def _contribution(self) -> tuple[Any, dict[str, np.ndarray]]:
        model = logistic(4, 3)
        x, y = table(5)
        state = model.combine(model.start(seed=0), [model.contribution(model.start(seed=0), x, y, seed=0)], [1.0])
        return model, model.contribution(state, x, y, seed=0)


class TestForest:
    @pytest.mark.parametrize("labels", [(0, 1, 2), (0, 2)])
    def test_it_predicts_as_scikit_learn_with_the_same_trees(self, labels: tuple[int, ...]) -> None:
        x, y = table(6)
        y = np.array(labels)[y % len(labels)]
        model = forest(4, 3, trees=20, min_leaf=3)
        state = model.combine({}, [model.contribution({}, x, y, seed=9)], [150.0])
        theirs = RandomForestClassifier(20, min_samples_leaf=3, max_features="sqrt", class_weight="balanced", random_state=9).fit(x, y)
        fresh = table(7)[0]
        p = model.predict(state, fresh)
        np.testing.assert_allclose(p[:, list(theirs.classes_)], theirs.predict_proba(fresh), atol=1e-6)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)

    def test_each_site_has_trees_in_proportion_to_its_patients(self) -> None:
        model = forest(4, 3, trees=20)
        (x, y), sites = table(8), [100, 45, 5]
        parts = [model.contribution({}, x[:n], y[:n], seed=n) for n in sites]
        union = model.combine({}, parts, [float(n) for n in sites])
        model.check(union, {})
        sizes = np.diff(np.append(union["first"], len(union["feature"])))
        wanted = [np.diff(np.append(p["first"], len(p["feature"])))[:k].tolist() for p, k in zip(parts, (13, 6, 1), strict=True)]
        assert sizes.tolist() == [size for sizes_of_site in wanted for size in sizes_of_site]

    def test_a_site_without_patients_and_a_forest_without_trees(self) -> None:
        model = forest(4, 3, trees=5)
        x, y = table(9)
        empty = model.contribution({}, x[:0], y[:0], seed=1)
        model.check(empty, {})
        np.testing.assert_allclose(model.predict(empty, x), 1 / 3)
        whole = model.contribution({}, x, y, seed=1)
        union = model.combine({}, [empty, whole], [0.0, 150.0])
        np.testing.assert_array_equal(model.predict(union, x), model.predict(whole, x))

    CASES: ClassVar[dict[str, Any]] = {
        "more trees than agreed": lambda t: {
            k: np.concatenate([v, v]) if k != "first" else np.concatenate([v, v + len(t["feature"])]) for k, v in t.items()
        },
        "a node points at itself": lambda t: {**t, "left": np.where(t["feature"] >= 0, 0, t["left"]).astype(np.int32)},
        "a node points outside": lambda t: {**t, "right": np.where(t["feature"] >= 0, 10**6, t["right"]).astype(np.int32)},
        "a negative child": lambda t: {**t, "left": np.where(t["feature"] >= 0, -5, t["left"]).astype(np.int32)},
        "a column too many": lambda t: {**t, "feature": np.where(t["feature"] >= 0, 4, -1).astype(np.int32)},
        "a negative column": lambda t: {**t, "feature": np.full_like(t["feature"], -2)},
        "a share above one": lambda t: {**t, "value": t["value"] + 1},
        "a negative share": lambda t: {**t, "value": -t["value"]},
        "a share that is NaN": lambda t: {**t, "value": t["value"] * np.float32("nan")},
        "a threshold that is infinite": lambda t: {**t, "threshold": t["threshold"] * np.inf},
        "trees out of order": lambda t: {**t, "first": t["first"][::-1].copy()},
        "a first tree elsewhere": lambda t: {**t, "first": t["first"] + np.int32(1)},
        "two trees at one place": lambda t: {**t, "first": np.zeros_like(t["first"])},
        "nodes without a tree": lambda t: {**t, "first": t["first"][:0]},
        "trees without nodes": lambda t: {k: v if k == "first" else v[:0] for k, v in t.items()},
        "arrays of two lengths": lambda t: {**t, "left": t["left"][:-1]},
        "another type": lambda t: {**t, "threshold": t["threshold"].astype(np.float32)},
        "another number of classes": lambda t: {**t, "value": t["value"][:, :2]},
        "a missing array": lambda t: {k: v for k, v in t.items() if k != "left"},
        "a further array": lambda t: {**t, "names": np.zeros(1)},
    }

    @pytest.mark.parametrize("name", CASES)
    def test_malformed_trees(self, name: str) -> None:
        model = forest(4, 3, trees=5)
        good = model.contribution({}, *table(10), seed=2)
        model.check(good, {})
        with pytest.raises(BadState), np.errstate(invalid="ignore"):
            model.check(self.CASES[name](good), {})

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_passes_the_check_can_be_walked(self, data: st.DataObject) -> None:
        model = forest(4, 3, trees=3)
        tree = {k: v.copy() for k, v in self._good().items()}
        for _ in range(data.draw(st.integers(1, 4))):
            key = data.draw(st.sampled_from(["feature", "left", "right", "first"]))
            tree[key][data.draw(st.integers(0, len(tree[key]) - 1))] = data.draw(st.integers(-3, 60))
        try:
            model.check(tree, {})
        except BadState:
            return
        assert model.predict(tree, table(12, 20)[0]).shape == (20, 3)

    @staticmethod
    def _good() -> dict[str, np.ndarray]:
        return forest(4, 3, trees=3).contribution({}, *table(11, 40), seed=3)


class TestTextureKernel:
    @pytest.mark.parametrize("damage", [lambda g: -g, lambda g: g - 2 * np.diag(np.diag(g).max() * np.eye(17)[3]), lambda g: np.triu(g)])
    def test_a_gram_matrix_that_no_patches_can_have(self, damage: Any) -> None:
        model = texture_kernel(1, 2, features=16)
        rng = np.random.default_rng(0)
        x, y = rng.normal(-850, 40, (30, 1, 15, 15)).astype(np.float32), np.arange(30) % 2
        state = model.combine(model.start(seed=0), [model.contribution(model.start(seed=0), x, y, seed=0)], [30.0])
        sums = model.contribution(state, x, y, seed=0)
        model.check(sums, state)
        with pytest.raises(BadState):
            model.check({**sums, "gram": damage(sums["gram"])}, state)


def test_a_patch_whose_middle_differs_is_another_to_a_kernel_that_knows_places() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 20)
    x = rng.normal(-850, 20, (40, 1, 31, 31))
    x[:20, :, 11:20, 11:20] -= 100  # as much dark lung in both, in the middle or at a corner
    x[20:, :, :9, :9] -= 100
    model = texture_kernel(1, 2, features=64, placed=True, gamma=0.044)
    state = model.start(seed=0)
    for _ in range(2):
        state = model.combine(state, [model.contribution(state, x[::2], y[::2], seed=0)], [20])
    assert (model.predict(state, x[1::2]).argmax(1) == y[1::2]).all()
