"""The training loop: what decides a round, and what each setting of ``[train]`` does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from client.training.fitter import Fitted, round_seed
from client.training.gradient import fit_gradient, predict_gradient
from client.training.records import Records
from client.training.rules import FedProx, Plain
from shared_models.catalogue import initial_state
from shared_models.core.choices import Choice
from shared_models.core.errors import BadCohort
from shared_models.core.state import digest, norm, subtract
from shared_models.experiment import Data, Experiment, Train

MODEL = Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8, "dropout": 0.2})


def experiment_of(**train: Any) -> Experiment:
    settings = {"epochs": 1, "batch": 4, "optimiser": {"name": "sgd", "lr": 0.05}, "schedule": "constant", **train}
    return Experiment(name="loop", data=Data(classes=("a", "b")), model=MODEL, train=Train.model_validate(settings))


def records_of(count: int = 10, share: float = 0.5) -> Records:
    rng = np.random.default_rng(1)
    y = (np.arange(count) >= share * count).astype(np.int64)
    x = (rng.uniform(0, 0.5, (count, 2, 16, 16)) + 0.4 * y[:, None, None, None]).astype(np.float32)
    return Records(x, y, tuple(map(str, range(count))))


START = initial_state(MODEL, inputs=1, outputs=2, seed=0)


def fit(records: Records | None = None, *, seed: int = 1, factor: float = 1.0, mu: float | None = None, **train: Any) -> Fitted:
    rule = Plain() if mu is None else FedProx(mu)
    return fit_gradient(experiment_of(**train), START, records_of() if records is None else records, rule=rule, factor=factor, seed=seed)


def moved(fitted: Fitted) -> float:
    return norm(subtract(fitted.state, START))


def test_a_round_has_a_seed_of_its_own() -> None:
    seeds = [round_seed(seed, number, site) for seed in (0, 1) for number in (1, 2) for site in ("alpha", "beta")]
    assert len(set(seeds)) == 8
    assert seeds == [round_seed(seed, number, site) for seed in (0, 1) for number in (1, 2) for site in ("alpha", "beta")]


def test_the_seed_decides_order_dropout_and_augmentation() -> None:
    noise = [{"name": "noise"}]
    assert digest(fit(augment=noise).state) == digest(fit(augment=noise).state)
    assert digest(fit(augment=noise).state) != digest(fit(augment=noise, seed=2).state)
    assert digest(fit(augment=noise).state) != digest(fit().state)


@pytest.mark.parametrize(("count", "batch", "epochs", "steps"), [(10, 4, 1, 3), (10, 4, 3, 9), (8, 4, 2, 4), (3, 16, 5, 5), (1, 1, 1, 1)])
def test_epochs_are_counted_in_patients(count: int, batch: int, epochs: int, steps: int) -> None:
    assert fit(records_of(count), batch=batch, epochs=epochs).steps == steps == epochs * math.ceil(count / batch)


def test_steps_replace_epochs() -> None:
    assert fit(steps=7, epochs=100).steps == 7


def test_the_factor_scales_what_one_step_does() -> None:
    assert moved(fit(steps=1, factor=0.5)) == pytest.approx(0.5 * moved(fit(steps=1)), rel=1e-3)


def test_the_clip_limits_a_step() -> None:
    assert moved(fit(steps=1, clip_norm=1e-3)) == pytest.approx(0.05 * 1e-3, rel=1e-2)
    assert moved(fit(steps=1, clip_norm=1e3)) == pytest.approx(moved(fit(steps=1)), rel=1e-5)


def test_label_smoothing_leaves_less_certainty() -> None:
    hard, soft = (fit(epochs=40, label_smoothing=share) for share in (0.0, 0.4))
    certain, doubting = (predict_gradient(experiment_of(), fitted.state, records_of()).max(1).mean() for fitted in (hard, soft))
    assert doubting < certain - 0.02
    assert doubting < 0.9
    assert digest(fit(label_smoothing=0.0).state) == digest(fit().state)


def test_a_strong_proximal_term_holds_the_model_back() -> None:
    assert moved(fit(epochs=20, mu=10.0)) < 0.5 * moved(fit(epochs=20))


def test_balanced_classes_weigh_the_rare_one_more() -> None:
    rare = records_of(12, share=0.75)
    plain, balanced = (fit(rare, epochs=10, batch=12, class_weights=how).state for how in ("none", "balanced"))
    p = [predict_gradient(experiment_of(), state, rare)[:, 1].mean() for state in (plain, balanced)]
    assert p[1] > p[0] + 0.02


def test_the_loss_is_the_mean_over_patients() -> None:
    assert fit(steps=1, factor=1e-9).loss == pytest.approx(math.log(2), abs=0.1)


def test_nobody_to_learn_from() -> None:
    with pytest.raises(BadCohort):
        fit(records_of().take([]))


def test_predictions_do_not_depend_on_the_batch_or_on_training_before() -> None:
    many = records_of(70)
    whole = predict_gradient(experiment_of(), START, many)
    fit()
    one_by_one = np.concatenate([predict_gradient(experiment_of(), START, many.take([number])) for number in range(70)])
    np.testing.assert_allclose(whole, one_by_one, atol=1e-6)
    np.testing.assert_array_equal(whole, predict_gradient(experiment_of(), START, many))
