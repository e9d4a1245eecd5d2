"""Ridge regression and discriminant analysis: the fits of scikit-learn, tables that leave a direction empty, and sums that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge as TheirRidge

from shared_models.classical.lda import lda
from shared_models.classical.ridge import ridge
from shared_models.core.errors import BadChoice, BadState
from tests.shared_models.classical.tables import cut, federated, standardised, table


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_ridge_is_that_of_scikit_learn(penalty: float) -> None:
    x, y = table(1)
    state = federated(ridge(4, 3, ridge=penalty), cut(x, y, 7, 90), 2)
    theirs = TheirRidge(alpha=penalty, solver="cholesky").fit(standardised(x), np.eye(3)[y])
    np.testing.assert_allclose(state["coefficients"][:-1].T, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(state["coefficients"][-1], theirs.intercept_, atol=1e-9)


def test_discriminant_analysis_is_that_of_scikit_learn() -> None:
    (x, y), (fresh, _) = table(2), table(3)
    model = lda(4, 3)
    state = federated(model, cut(x, y, 7, 90), 2)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(x, y)
    np.testing.assert_allclose(state["priors"], theirs.priors_)
    np.testing.assert_allclose(state["means"] * state["scale"] + state["mean"], theirs.means_, rtol=1e-10)
    # Theirs divides by the patients, ours by the patients less the classes, as Hastie et al. do.
    as_theirs = state["covariance"] * (150 - 3) / 150
    np.testing.assert_allclose(as_theirs * np.outer(state["scale"], state["scale"]), theirs.covariance_, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.predict({**state, "covariance": as_theirs}, fresh), theirs.predict_proba(fresh), atol=1e-9)


def test_shrinkage_goes_from_the_covariance_to_its_mean_variance() -> None:
    x, y = table(4)
    plain, half, whole = (federated(lda(4, 3, shrinkage=s), [(x, y)], 2)["covariance"] for s in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(whole, np.trace(plain) / 4 * np.eye(4), atol=1e-12)
    np.testing.assert_allclose(half, (plain + whole) / 2)


@pytest.mark.parametrize("build", [lda, ridge])
def test_a_column_that_never_changes_and_a_class_that_nobody_has(build: Any) -> None:
    x, y = table(5)
    x[:, 2] = 7.0
    y[y == 2] = 0
    model = build(4, 3)
    p = model.predict(federated(model, cut(x, y, 60), 3), x)
    assert np.isfinite(p).all()
    assert (p.argmax(1) == y).mean() > 0.7
    assert p[:, 2].max() < (1e-9 if build is lda else 0.4)


def test_more_columns_than_patients() -> None:
    x, y = np.random.default_rng(6).normal(0, 1, (8, 20)), np.arange(8) % 2
    for model in (lda(20, 2, shrinkage=0.5), lda(20, 2), ridge(20, 2)):
        assert np.isfinite(model.predict(federated(model, [(x, y)], 2), x)).all()


@pytest.mark.parametrize(("build", "matrix"), [(lda, "products"), (ridge, "gram")])
class TestSumsThatCannotBe:
    CASES = ("negative", "lopsided", "n", "counts", "nan", "shape")

    @pytest.mark.parametrize("what", CASES)
    def test_they_are_refused(self, build: Any, matrix: str, what: str) -> None:
        x, y = table(7)
        model = build(4, 3)
        state = federated(model, [(x, y)], 1)
        good = model.contribution(state, x, y, seed=0)
        model.check(good, state)
        bad = {
            "negative": {matrix: -good[matrix]},
            "lopsided": {matrix: np.triu(good[matrix]) * 3},
            "n": {"n": -good["n"]},
            "counts": {"counts": good["counts"] - 1e6},
            "nan": {"sum": good["sum"] * np.nan},
            "shape": {matrix: good[matrix][:-1]},
        }[what]
        with pytest.raises(BadState):
            model.check({**good, **bad}, state)

    def test_a_public_scale_needs_no_first_round_and_names_every_column(self, build: Any, matrix: str) -> None:
        x, y = table(8)
        model = build(4, 3, centre=tuple(x.mean(0)), spread=tuple(x.std(0)))
        own = build(4, 3)
        np.testing.assert_allclose(model.predict(federated(model, [(x, y)], 1), x), own.predict(federated(own, [(x, y)], 2), x), atol=1e-9)
        assert matrix in model.parts(model.start(seed=0))
        with pytest.raises(BadChoice, match="one number a column"):
            build(3, 3, centre=(0.0,), spread=(1.0,))
        with pytest.raises(BadState, match="public scale"):
            own.lengths(own.start(seed=0), x, y)
