"""Several networks in one state: what goes in comes out, and the prediction is the weighted mean of the members' probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from client.training import PREDICTORS
from client.training.records import Records
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadState
from shared_models.core.files import pack_state, unpack_state
from shared_models.core.state import digest
from shared_models.ensemble import WEIGHTS, Member, join, largest_of, members_of
from shared_models.experiment import Data, Experiment, Inputs

EXPERIMENT = Experiment(name="x", data=Data(classes=("a", "b", "c")), model=Choice(name="linear"), inputs=Inputs(columns=("x", "y")))


def member(seed: int) -> dict[str, np.ndarray]:
    return initial_state(EXPERIMENT.model, inputs=2, outputs=3, seed=seed)


def test_it_predicts_by_the_weighted_mean_of_probabilities() -> None:
    states = [member(seed) for seed in range(3)]
    whole = unpack_state(pack_state(join([Member(weight, state) for weight, state in zip((10, 30, 60), states, strict=True)])))
    records = Records(np.random.default_rng(0).normal(size=(20, 2)), np.zeros(20, np.int64), tuple(map(str, range(20))))

    def predict(state: dict[str, np.ndarray]) -> np.ndarray:
        return PREDICTORS["gradient"](EXPERIMENT, state, records)

    alone = [predict(state) for state in states]
    np.testing.assert_allclose(predict(whole), 0.1 * alone[0] + 0.3 * alone[1] + 0.6 * alone[2], rtol=1e-12)
    np.testing.assert_allclose(predict(whole).sum(1), 1.0)
    assert predict(states[0]).tobytes() == alone[0].tobytes()
    assert digest(largest_of(whole)) == digest(states[2])
    assert digest(largest_of(states[1])) == digest(states[1])


@pytest.mark.parametrize(
    "damage",
    [
        {WEIGHTS: np.array([0.5, 0.6])},
        {WEIGHTS: np.array([1.5, -0.5])},
        {WEIGHTS: np.array([np.nan, 1.0])},
        {WEIGHTS: np.zeros(0)},
        {"w": np.zeros(1)},
        {"ensemble/2/w": np.zeros(1)},
        {"ensemble/x/w": np.zeros(1)},
        {"ensemble/1/": np.zeros(1)},
    ],
)
def test_what_is_no_ensemble_is_refused(damage: dict[str, np.ndarray]) -> None:
    good = join([Member(1, {"w": np.ones(1)}), Member(1, {"w": np.ones(1)})])
    assert len(members_of(good)) == 2
    with pytest.raises(BadState):
        members_of({**good, **damage})


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [2.0, -1.0]])
def test_weights_that_cannot_be(weights: list[float]) -> None:
    with pytest.raises(BadState):
        join([Member(weight, {}) for weight in weights])
