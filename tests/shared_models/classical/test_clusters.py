"""Clusters by exact sums: scikit-learn's centres, the fuzzy ones by their formula, no empty cluster, and networks of radial units on top."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge as TheirRidge

from shared_models.blocks.clusters import cluster_sums, first_centres, next_centres, squared_distances
from shared_models.blocks.fuzzy import fit_fuzzy
from shared_models.classical.kmeans import kmeans
from shared_models.classical.rbf import rbf
from shared_models.core.errors import BadState
from tests.shared_models.classical.tables import cut, federated, standardised, table


def test_the_centres_are_those_of_scikit_learn() -> None:
    x, y = table(1, 200)
    state = federated(kmeans(4, 3, clusters=5, steps=40), cut(x, y, 13, 150), 41)
    scaled = standardised(x)
    theirs = KMeans(5, init=first_centres(5, 4, 0), n_init=1, max_iter=40, tol=0, algorithm="lloyd").fit(scaled)
    np.testing.assert_allclose(state["centres"], theirs.cluster_centers_, atol=1e-9)


def test_a_fuzzy_step_is_its_formula() -> None:
    rng = np.random.default_rng(2)
    x, centres = rng.normal(0, 1, (30, 3)), rng.normal(0, 1, (4, 3))
    for m in (1.5, 2.0, 3.0):
        distance = np.sqrt(((x[None] - centres[:, None]) ** 2).sum(2))
        u = np.array([[1 / sum((distance[i, k] / distance[j, k]) ** (2 / (m - 1)) for j in range(4)) for k in range(30)] for i in range(4)])
        sums = cluster_sums(x, centres, fuzzifier=m)
        np.testing.assert_allclose(next_centres(centres, sums), (u**m @ x) / (u**m).sum(1)[:, None], rtol=1e-10)
        np.testing.assert_allclose(sums["spread"].sum(), (u**m * distance**2).sum(), rtol=1e-10)


def test_in_one_column_fuzzy_centres_are_those_of_the_histogram() -> None:
    counts, levels = np.array([5, 9, 2, 0, 1, 8, 7]), np.arange(7.0)
    wanted = fit_fuzzy([counts], levels, np.array([0.0, 5.0]), tolerance=0, steps=30).centres
    centres = np.array([[0.0], [5.0]])
    for _ in range(30):
        centres = next_centres(centres, cluster_sums(np.repeat(levels, counts)[:, None], centres, fuzzifier=2.0))
    np.testing.assert_allclose(centres.ravel(), wanted, rtol=1e-10)


@pytest.mark.parametrize("fuzzifier", [None, 2.0])
def test_the_spread_never_rises_and_no_cluster_stays_empty(fuzzifier: float | None) -> None:
    x = standardised(table(3, 120)[0])
    centres, spreads = first_centres(8, 4, 1) + 5.0, []
    for _ in range(60):
        sums = cluster_sums(x, centres, fuzzifier=fuzzifier)
        spreads.append(float(sums["spread"].sum()))
        centres = next_centres(centres, sums)
    assert (cluster_sums(x, centres, fuzzifier=fuzzifier)["members"] > 0).all()
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(spreads[20:]))
    assert spreads[-1] < spreads[0]


def test_fewer_different_rows_than_centres_stay_finite() -> None:
    x, y = np.repeat([[1.0, 2.0], [3.0, 4.0]], 5, axis=0), np.repeat([0, 1], 5)
    for model, rounds in ((kmeans(2, 2, clusters=6, steps=4), 7), (rbf(2, 2, centres=6, steps=4), 7)):
        state = federated(model, cut(x, y, 3), rounds)
        assert all(np.isfinite(value).all() for value in state.values())
        assert model.predict(state, x).argmax(1).tolist() == y.tolist()


def test_clusters_tell_the_share_of_each_class_among_their_patients() -> None:
    x, y = table(4)
    model = kmeans(4, 3, clusters=4, steps=6)
    state = federated(model, cut(x, y, 40), 9)
    nearest = squared_distances(standardised(x), state["centres"]).argmin(0)
    for number in range(4):
        counts = np.bincount(y[nearest == number], minlength=3) + 1 / 3
        np.testing.assert_allclose(state["shares"][number], counts / counts.sum(), rtol=1e-9)
    np.testing.assert_allclose(model.predict(state, x), state["shares"][nearest], rtol=1e-9)
    soft = kmeans(4, 3, clusters=4, steps=6, fuzzifier=1.5)
    assert (soft.predict(federated(soft, [(x, y)], 9), x).argmax(1) == y).mean() > 0.6


def test_the_output_layer_is_the_ridge_regression_of_scikit_learn_on_the_units() -> None:
    x, y = table(5)
    state = federated(rbf(4, 3, centres=6, steps=5, reach=3.0, ridge=0.2), cut(x, y, 9, 100), 8)
    units = np.exp(-squared_distances(standardised(x), state["centres"]).T / (2 * state["variance"][0]))
    theirs = TheirRidge(alpha=0.2, solver="cholesky").fit(units, np.eye(3)[y])
    np.testing.assert_allclose(state["coefficients"][:-1].T, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(state["coefficients"][-1], theirs.intercept_, atol=1e-8)


def test_sums_that_no_patients_can_have() -> None:
    x, y = table(6)
    for model, rounds, bad in (
        (kmeans(4, 3, steps=3), 2, {"members": -np.ones(8)}),
        (kmeans(4, 3, steps=3), 4, {"classes": -np.ones((8, 3))}),
        (rbf(4, 3, centres=8, steps=3), 2, {"spread": np.full(8, np.nan)}),
        (rbf(4, 3, centres=8, steps=3), 4, {"gram": np.triu(np.ones((9, 9)))}),
    ):
        state = federated(model, [(x, y)], rounds)
        good = model.contribution(state, x, y, seed=0)
        model.check(good, state)
        with pytest.raises(BadState):
            model.check({**good, **bad}, state)
