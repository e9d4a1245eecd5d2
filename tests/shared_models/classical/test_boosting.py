"""Boosting by summed histograms: bit for bit the pooled trees, the trees of a search over single patients, and as good as scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from shared_models.blocks.histogram_grid import CELLS, bins_of, cell_counts, edges_of, grid_of
from shared_models.blocks.histogram_trees import Trees
from shared_models.blocks.softmax import softmax
from shared_models.classical.boosting import GRAIN, Boosting, boosting
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.state import digest


def patients(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns that only together tell the class; one of them with few values, one with a long tail."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(0, 1, count), rng.integers(0, 4, count), np.exp(rng.normal(5, 1, count)), rng.normal(9, 0.1, count)])
    y = ((x[:, 0] > 0) ^ (x[:, 1] >= 2)).astype(int) + (x[:, 2] > 300)
    return x, np.where(rng.random(count) < 0.05, rng.integers(0, 3, count), y)


def fitted(model: Boosting, sites: list[tuple[np.ndarray, np.ndarray]]) -> State:
    state = model.start(seed=0)
    for _ in range(2 + model.trees * model.depth + 1):
        sums = [model.contribution(state, x, y, seed=0) for x, y in sites]
        for contribution in sums:
            model.check(contribution, state)
        state = model.combine(state, sums, [1.0] * len(sums))
    return state


@pytest.mark.parametrize("seed", [1, 2])
def test_any_spread_over_sites_grows_the_same_bits(seed: int) -> None:
    x, y = patients(seed, 200)
    model, order = boosting(4, 3, trees=4, depth=3), np.random.default_rng(seed).permutation(200)
    spread = [(x[part], y[part]) for part in np.split(order, [3, 50, 51, 120])]
    assert digest(fitted(model, spread)) == digest(fitted(model, [(x, y)]))


def slow_tree(x: np.ndarray, slope: np.ndarray, bend: np.ndarray, edges: np.ndarray, model: Boosting, depth: int) -> Any:
    """Every edge of every column tried on the patients themselves, from the root down."""
    whole = slope.sum() ** 2 / (bend.sum() + model.penalty)
    best: tuple[float, int, float] | None = None
    for column in range(x.shape[1]) if depth else ():
        for edge in edges[column]:
            left = x[:, column] < edge
            if min(left.sum(), (~left).sum()) < model.min_leaf:
                continue
            gain = sum(slope[side].sum() ** 2 / (bend[side].sum() + model.penalty) for side in (left, ~left)) - whole
            if gain > 1e-9 and (best is None or gain > best[0]):
                best = (gain, column, edge)
    if best is None:
        return -model.rate * slope.sum() / (bend.sum() + model.penalty)
    left = x[:, best[1]] < best[2]
    return best[1:], *(slow_tree(x[side], slope[side], bend[side], edges, model, depth - 1) for side in (left, ~left))


def answer(tree: Any, row: np.ndarray) -> float:
    while isinstance(tree, tuple):
        (column, edge), left, right = tree
        tree = left if row[column] < edge else right
    return tree


def test_the_histograms_find_the_trees_of_a_search_over_patients() -> None:
    x, y = patients(3, 150)
    model = boosting(4, 3, trees=3, depth=2, bins=8)
    state = fitted(model, [(x[:40], y[:40]), (x[40:], y[40:])])
    scores = np.zeros((150, 3))
    for _ in range(3):
        p = softmax(scores)
        slope, bend = (np.rint(part / GRAIN) * GRAIN for part in (p - np.eye(3)[y], p * (1 - p)))
        trees = [slow_tree(x, slope[:, k], bend[:, k], state["edges"], model, 2) for k in range(3)]
        scores = scores + np.array([[answer(tree, row) for tree in trees] for row in x])
    np.testing.assert_allclose(model.predict(state, x), softmax(scores), rtol=1e-12)


def test_it_is_as_good_as_that_of_scikit_learn() -> None:
    (x, y), (fresh, truth) = patients(4, 600), patients(5, 600)
    model = boosting(4, 3, trees=15, depth=3)
    ours = (model.predict(fitted(model, [(x, y)]), fresh).argmax(1) == truth).mean()
    theirs = HistGradientBoostingClassifier(max_iter=15, max_depth=3, learning_rate=0.3, early_stopping=False).fit(x, y).score(fresh, truth)
    assert ours > theirs - 0.02


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 12))
def test_edges_part_patients_evenly_as_far_as_the_grid_goes(seed: int, count: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 100), 10.0 ** rng.integers(-3, 3), (count, 2))
    low, width = grid_of(x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0))
    counts = cell_counts(x, low, width)
    assert (counts.sum(1) == count).all()
    edges = edges_of(counts, low, width, bins)
    assert (np.diff(edges, axis=1) >= 0).all()
    for column in range(2):
        sizes = np.bincount(bins_of(x, edges)[:, column], minlength=bins)
        assert sizes.sum() == count
        assert sizes[:-1].max(initial=0) <= count / bins + counts[column].max() + 1
        below = (x[:, column, None] < edges[column]).sum(0)
        np.testing.assert_array_equal(below, np.cumsum(sizes)[:-1])


def test_values_beyond_the_grid_lie_in_its_last_cells() -> None:
    counts = cell_counts(np.array([[-1e9], [1e9]]), np.zeros(1), np.ones(1))
    assert (counts[0, 0], counts[0, CELLS - 1]) == (1, 1)


def test_a_column_that_never_changes_and_too_few_patients_grow_no_split() -> None:
    x, y = patients(6, 40)
    x[:, :] = 3.0
    state = fitted(boosting(4, 3, trees=2, depth=2), [(x, y)])
    assert (state["feature"] == -1).all()
    p = boosting(4, 3, trees=2, depth=2).predict(state, x[:1])[0]
    assert np.array_equal(np.argsort(p), np.argsort(np.bincount(y, minlength=3)))
    few, kinds = patients(7, 9)
    assert (fitted(boosting(4, 3, trees=1, depth=2), [(few, kinds)])["feature"] == -1).all()


def test_trees_walk_as_they_are_written() -> None:
    tree = Trees.empty(1, depth=2)
    tree.feature[0, [0, 2]], tree.threshold[0, [0, 2]] = [0, 1], [1.0, 5.0]
    assert tree.places(np.array([[0.0, 9.0], [1.0, 4.9], [2.0, 5.0]])).tolist() == [[1, 5, 6]]


CASES: dict[str, Any] = {
    "slopes beyond one a patient": lambda s: {**s, "slopes": s["slopes"] + 2 * s["patients"]},
    "bends beyond a quarter": lambda s: {**s, "bends": s["patients"] / 2},
    "negative bends": lambda s: {**s, "bends": -s["bends"]},
    "negative patients": lambda s: {**s, "patients": s["patients"] - 1},
    "a slope that is NaN": lambda s: {**s, "slopes": s["slopes"] * np.nan},
    "another number of nodes": lambda s: {**s, "slopes": s["slopes"][:, :0]},
}


@pytest.mark.parametrize("name", CASES)
def test_histograms_that_no_patients_can_have(name: str) -> None:
    x, y = patients(8, 30)
    model = boosting(4, 3, trees=2, depth=2)
    state = model.start(seed=0)
    for _ in range(2):
        state = model.combine(state, [model.contribution(state, x, y, seed=0)], [1.0])
    good = model.contribution(state, x, y, seed=0)
    model.check(good, state)
    with pytest.raises(BadState):
        model.check(CASES[name](good), state)
