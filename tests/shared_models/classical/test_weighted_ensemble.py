"""The weighted ensemble: never worse out of fold than its best member, honest about folds, and its choice is Caruana's."""

from __future__ import annotations

import numpy as np
import pytest

from shared_models.blocks.row_split import folds_of
from shared_models.classical.weighted_ensemble import MEMBERS, weighted_ensemble
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadState
from shared_models.ensembles.caruana import caruana
from tests.shared_models.classical.tables import Site, cut, federated, table

CHOSEN = (
    Choice.model_validate({"name": "logistic", "ridge": 1.0}),
    Choice(name="lda"),
    Choice.model_validate({"name": "kmeans", "clusters": 5, "steps": 5}),
    Choice.model_validate({"name": "svm", "features": 24}),
)
KNOBS = {"members": CHOSEN, "folds": 3, "fit_rounds": 8, "choices": 6}


def out_of_fold(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each member alone, fitted without the fold that it predicts: shape (members, n, classes)."""
    fold, found = folds_of(x, 3), np.zeros((len(CHOSEN), len(x), 3))
    for number, choice in enumerate(CHOSEN):
        for left in range(3):
            member = MEMBERS[choice.name].build(4, 3, **choice.knobs)
            state = federated(member, [(x[fold != left], y[fold != left])], 8)
            found[number, fold == left] = member.predict(state, x[fold == left])
    return found


def loss_of(p: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


@pytest.fixture(scope="module")
def fitted() -> tuple[Site, State]:
    x, y = table(5)
    model = weighted_ensemble(4, 3, **KNOBS)
    return (x, y), federated(model, cut(x, y, 20, 90), model.rounds)


def test_weights_are_shares_and_the_ensemble_is_no_worse_than_its_best_member(fitted: tuple[Site, State]) -> None:
    (x, y), state = fitted
    assert (state["weights"] >= 0).all()
    assert state["weights"].sum() == pytest.approx(1)
    p = out_of_fold(x, y)
    together = loss_of(np.einsum("m,mnc->nc", state["weights"], p), y)
    assert together == pytest.approx(float(state["least"][0]), rel=1e-6)
    assert together <= min(loss_of(member, y) for member in p) + 1e-9


def test_the_choice_is_that_of_selection_on_the_same_predictions(fitted: tuple[Site, State]) -> None:
    (x, y), state = fitted
    p = out_of_fold(x, y)
    selection = caruana(len(CHOSEN), 3)
    alone = selection.start()
    for _ in range(6):
        alone = selection.combine(alone, [selection.contribution(alone, p, y)])
    np.testing.assert_array_equal(state["taken"], alone["taken"])


def test_no_row_is_judged_by_a_fit_that_saw_it() -> None:
    x, y = table(6, 60)
    model = weighted_ensemble(4, 3, **KNOBS)
    state = federated(model, [(x, y)], 8)
    changed = y.copy()
    changed[7] = (y[7] + 1) % 3
    other = federated(model, [(x, changed)], 8)
    fold = int(folds_of(x[7:8], 3)[0])
    fits = {key: key.split("/")[2] for key in state if key.startswith("member/")}
    for key in (key for key, left in fits.items() if left == str(fold)):
        np.testing.assert_array_equal(state[key], other[key], err_msg=key)
    assert any(not np.array_equal(state[key], other[key]) for key, left in fits.items() if left == "3")


def test_members_that_cannot_be_and_sums_that_cannot_be() -> None:
    with pytest.raises(BadChoice, match="no member 'forest'"):
        weighted_ensemble(4, 3, members=(Choice(name="forest"), Choice(name="lda")))
    x, y = table(7, 60)
    model = weighted_ensemble(4, 3, **KNOBS)
    for rounds, key, value in ((0, "member/0/0/n", -np.ones(1)), (8, "loss", -np.ones(4)), (8, "loss", np.full(4, np.nan))):
        state = federated(model, [(x, y)], rounds)
        good = model.contribution(state, x, y, seed=0)
        with pytest.raises(BadState):
            model.check({**good, key: value}, state)
