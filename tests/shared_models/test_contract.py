"""What the battery of `test_catalogue` leaves out: records that a model cannot read, three hospitals of equal mix, labels that were shuffled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.training import FITTERS, PREDICTORS
from client.training.records import Records
from client.training.rules import Plain
from shared_models.catalogue import MODELS
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.core.state import digest
from shared_models.experiment import Train
from shared_models.metrics.ranking import auroc
from tests.shared_models.test_catalogue import NAMES, NETS, ROUNDS, experiment_of, fitted, predict, samples, start

IN_THE_SUITE = ["forest", "linear", "logistic", "mil_cnn"]
"""Models whose shuffled labels are looked at in `make test`; those of the others in the zoo."""


def records_of(name: str, count: int, seed: int) -> Records:
    x, y = samples(name, count, seed)
    return Records(x, y.astype(np.int64), tuple(map(str, range(count))))


@pytest.mark.parametrize("name", NAMES)
def test_records_that_a_model_cannot_read_are_named(name: str) -> None:
    experiment, state, good = experiment_of(name), start(name), records_of(name, 8, 1)
    missing = replace(good, inputs=good.inputs[:, 0])
    doubled = (
        replace(good, inputs=np.repeat(good.inputs, 2, axis=1)) if MODELS[name].takes != "slices" else replace(good, inputs=good.inputs[:, None])
    )
    strange = replace(good, labels=good.labels + 1)
    for wrong, words in ((missing, "reads records of shape"), (doubled, "reads records of shape"), (strange, "one of 2 classes")):
        with pytest.raises(BadCohort, match=words):
            PREDICTORS[MODELS[name].fit](experiment, state, wrong)
        with pytest.raises(BadCohort, match=words):
            FITTERS[MODELS[name].fit](experiment, state, wrong, rule=Plain(), factor=1.0, seed=0)


@pytest.mark.parametrize("name", NETS)
def test_one_full_step_of_three_hospitals_of_equal_mix_is_the_pooled_step(name: str) -> None:
    train = Train(steps=1, batch=12, optimiser=Choice.model_validate({"name": "sgd", "lr": 0.05}), schedule="constant")
    experiment, pooled = experiment_of(name).model_copy(update={"train": train}), records_of(name, 12, 7)

    def stepped(records: Records) -> dict[str, np.ndarray]:
        return FITTERS["gradient"](experiment, start(name), records, rule=Plain(), factor=1.0, seed=0).state

    sites = [pooled.take(range(first, last)) for first, last in ((0, 4), (4, 8), (8, 12))]
    whole, parts = stepped(pooled), [stepped(site) for site in sites]
    assert all(len(set(np.bincount(site.labels).tolist())) == 1 for site in sites)
    assert digest(whole) != digest(start(name))
    for key, value in whole.items():
        np.testing.assert_allclose(np.mean([part[key] for part in parts], axis=0), value, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", [name if name in IN_THE_SUITE else pytest.param(name, marks=pytest.mark.zoo) for name in NAMES])
def test_shuffled_labels_say_nothing_of_new_samples(name: str) -> None:
    rng = np.random.default_rng(11)
    x, y = samples(name, 32, 4)
    state = fitted(name, x, rng.permutation(y), min(5, ROUNDS[MODELS[name].fit]))
    held, truth = samples(name, 400, 5)
    found = auroc(rng.permutation(truth), predict(name, state, held)[:, 1])
    assert found is not None and abs(found - 0.5) < 0.12
