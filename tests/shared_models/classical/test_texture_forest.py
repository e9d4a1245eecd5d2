"""A forest over windows: no leaf of too few patients, the plain forest where nothing is taken back, and refusals of the site agree."""

from __future__ import annotations

import numpy as np
import pytest

from client.privacy.support import check_groups
from shared_models.classical.forest import forest
from shared_models.classical.texture_forest import texture_forest
from shared_models.core.errors import BadState, Refused


def windows(seed: int = 0, patients: int = 12, each: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows whose pattern hangs on two columns; every patient has a column value of their own, which tempts a tree to single them out."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), each)
    x = rng.normal(size=(len(who), 4))
    x[:, 3] = who + 0.1 * x[:, 3]
    pattern = (x[:, 0] + 0.3 * rng.normal(size=len(who)) > 0).astype(np.int64) + (x[:, 1] > 1.0)
    pattern[who == 3] = 2  # one patient is all of one pattern
    return x, pattern, who


@pytest.mark.parametrize("least", [2, 5])
def test_no_leaf_tells_of_too_few_patients(least: int) -> None:
    x, pattern, who = windows()
    names = [f"p{number}" for number in who]
    model = texture_forest(4, 3, trees=6, min_leaf=2, min_patients=least)
    state = model.contribution({}, x, np.stack([pattern, who], axis=1), seed=3)
    model.check(state, {})
    check_groups(model.groups(state, x), names, least)
    plain = forest(4, 3, trees=6, min_leaf=2, balanced=False)
    with pytest.raises(Refused):
        check_groups(plain.groups(plain.contribution({}, x, pattern, seed=3), x), names, least)
    assert (model.predict(state, x).argmax(1) == pattern).mean() > 0.7


def test_with_nothing_to_take_back_it_is_the_plain_forest() -> None:
    x, pattern, who = windows(1)
    model, plain = texture_forest(4, 3, trees=4, min_leaf=3, min_patients=1), forest(4, 3, trees=4, min_leaf=3, balanced=False)
    state, other = (one.contribution({}, x, y, seed=2) for one, y in ((model, np.stack([pattern, who], 1)), (plain, pattern)))
    np.testing.assert_allclose(model.predict(state, x), plain.predict(other, x), atol=1e-6)


def test_a_cut_tree_says_what_its_inner_node_said() -> None:
    x, pattern, who = windows(2)
    model = texture_forest(4, 3, trees=1, min_leaf=2, min_patients=12)  # a split may only stand where all patients are on both sides
    state = model.contribution({}, x, np.stack([pattern, who], 1), seed=0)
    np.testing.assert_allclose(state["value"].sum(1), 1.0, atol=1e-5)
    ends = model.groups(state, x)[0]
    for node in np.unique(ends):
        assert len(np.unique(who[ends == node])) == 12
    empty = model.contribution({}, x[:0], pattern[:0], seed=0)
    assert not len(empty["first"]) and model.predict(empty, x[:2]).tolist() == [[1 / 3] * 3] * 2


def test_balance_moves_the_extent_of_a_rare_pattern_from_too_small_to_too_large() -> None:
    rng = np.random.default_rng(0)
    pattern = (rng.random(3000) < 0.1).astype(np.int64)
    x, who = rng.normal(1.5 * pattern, 1.0)[:, None], np.arange(3000) % 10
    called = []
    for balance in (0.0, 0.5, 1.0):
        model = texture_forest(1, 2, trees=5, min_leaf=60, balance=balance)
        called.append(float(model.predict(model.contribution({}, x, np.stack([pattern, who], 1), seed=0), x).argmax(1).mean()))
    assert called[0] < 0.6 * pattern.mean() and called[2] > 1.5 * pattern.mean() and called[0] < called[1] < called[2]


def test_records_end_where_a_walk_from_the_root_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared_models.classical.forest.CHUNK", 7)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    grown = texture_forest(4, 3, trees=3, min_leaf=5, min_patients=1)
    state = grown.contribution({}, x, y, seed=1)
    asked = np.where(rng.random((30, 4)) < 0.1, np.nan, rng.normal(size=(30, 4)))
    found = grown.groups(state, asked)
    for tree, first in enumerate(state["first"]):
        for record, row in enumerate(np.float32(asked)):
            node = int(first)
            while state["feature"][node] >= 0:
                goes_left = row[state["feature"][node]] <= state["threshold"][node]
                node = int(first + state["left" if goes_left else "right"][node])
            assert found[tree, record] == node
    with pytest.raises(BadState, match="columns"):
        grown.groups(state, asked[:, :1])
