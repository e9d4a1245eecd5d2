"""The support vector machine: scikit-learn's on the same features, near the kernel machine, and steps that never make it worse."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.svm import SVC, LinearSVC

from shared_models.blocks.fourier import fourier_features
from shared_models.classical.svm import svm
from shared_models.core.errors import BadState
from tests.shared_models.classical.tables import Site, cut, federated, standardised, table


def rings(seed: int, count: int = 200) -> Site:
    """Two classes that no line parts."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.normal(1, 0.2, count) + 1.2 * y
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]), y


@pytest.mark.parametrize("cost", [0.1, 1.0, 10.0])
def test_it_is_that_of_scikit_learn_on_the_same_features(cost: float) -> None:
    x, y = table(1)
    state = federated(svm(4, 3, features=40, cost=cost, gamma=0.2, seed=5), cut(x, y, 3, 80), 15)
    design = fourier_features(standardised(x), features=40, gamma=0.2, seed=5)
    theirs = LinearSVC(C=cost, loss="squared_hinge", dual=False, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(design, y)
    np.testing.assert_allclose(state["coefficients"], theirs.coef_, atol=1e-4 * max(1.0, float(np.abs(theirs.coef_).max())))


def test_the_optimum_is_reached_to_the_last_digits() -> None:
    x, y = table(2)
    model = svm(4, 3, features=40)
    early, late = (federated(model, cut(x, y, 75), rounds)["coefficients"] for rounds in (15, 16))
    np.testing.assert_allclose(early, late, rtol=1e-10, atol=1e-12)


def test_it_parts_what_no_line_parts_as_well_as_the_kernel_machine() -> None:
    (x, y), (fresh, truth) = rings(3), rings(4, 400)
    model = svm(2, 2)
    ours = (model.predict(federated(model, cut(x, y, 50, 60), 9), fresh).argmax(1) == truth).mean()
    assert ours > SVC(C=1.0).fit(standardised(x), y).score((fresh - x.mean(0)) / x.std(0), truth) - 0.03
    assert ours > 0.95


def embeddings(seed: int, count: int) -> Site:
    """Pooled embeddings of three classes as a network gives them: rectified mixtures of a few factors, whose products name the class."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(99).normal(size=(5, 32))
    factors = rng.normal(size=(count, 5))
    y = np.where(np.abs(factors[:, 2]) > 1, 2, factors[:, 0] * factors[:, 1] > 0).astype(np.int64)
    return np.maximum(factors @ mixing, 0) + rng.normal(0, 0.1, (count, 32)), y


def test_on_embeddings_it_is_as_right_as_an_exact_kernel_machine_that_would_send_patients() -> None:
    (x, y), (fresh, truth) = embeddings(1, 300), embeddings(2, 1500)
    ours = svm(32, 3, features=512, cost=10.0)
    found = (ours.predict(federated(ours, cut(x, y, 70, 180), 9), fresh).argmax(1) == truth).mean()
    exact = SVC(C=10.0, gamma=0.5 / 32).fit(standardised(x), y).score((fresh - x.mean(0)) / x.std(0), truth)
    line = LinearSVC(C=10.0).fit(standardised(x), y).score((fresh - x.mean(0)) / x.std(0), truth)
    assert found >= exact - 0.03, (found, exact)
    assert exact > line + 0.01, (exact, line)


def test_a_step_too_far_is_halved_until_the_objective_falls() -> None:
    x, y = table(5)
    model = svm(4, 3, features=24)
    state = federated(model, [(x, y)], 4)
    far, seen = {**state, "coefficients": state["best"] + 30.0}, []
    for _ in range(60):
        far = model.combine(far, [model.contribution(far, x, y, seed=0)], [1.0])
        seen.append(float(far["objective"].sum()))
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(seen))
    np.testing.assert_allclose(far["coefficients"], federated(model, [(x, y)], 20)["coefficients"], rtol=1e-8, atol=1e-10)


def test_sums_that_no_patients_can_have() -> None:
    x, y = table(6)
    model = svm(4, 3, features=16)
    state = federated(model, [(x, y)], 2)
    good = model.contribution(state, x, y, seed=0)
    model.check(good, state)
    bad = ({"loss": -good["loss"]}, {"gram": -good["gram"]}, {"gram": np.triu(good["gram"])}, {"target": good["target"] * np.inf}, {"n": -good["n"]})
    for change in bad:
        with pytest.raises(BadState), np.errstate(invalid="ignore"):
            model.check({**good, **change}, state)
