"""Every model that states risks: they never fall with the horizon, and the risk by five years is right although many were lost before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.prognosis import prognosis_of, states_risks
from client.training.gradient import fit_gradient
from client.training.hazards import risks
from client.training.records import Records
from client.training.rules import Plain
from shared_models.blocks.spec import Stating
from shared_models.catalogue import MODELS, build, initial_state
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.experiment import Data, Experiment, Inputs, Train

HORIZONS = (1.0, 3.0, 5.0)
DATA = Data.model_validate({"target": "survival", "horizons": list(HORIZONS)})
KNOBS: dict[str, dict[str, Any]] = {
    "random_survival_forest": {"trees": 12, "min_leaf": 20},
    "survival_boosting": {"trees": 8, "depth": 2, "rate": 0.4},
    "multimodal": {"width": 8, "hidden": 16, "dropout": 0.0, "modality_dropout": 0.0},
}
"""Every line of the catalogue whose task is survival, small, and a network for all networks."""
ROUNDS = {"survival_boosting": 18}


def planted(count: int, seed: int) -> tuple[Records, np.ndarray]:
    """Weibull times of rising hazard, lost uniformly over 0.3 to 7 years; and each patient's true risk by the horizons."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2))
    rate = 0.09 * np.exp(0.8 * x[:, 0])
    death, last = (rng.exponential(size=count) / rate) ** (1 / 1.2), rng.uniform(0.3, 7, count)
    truth = 1 - np.exp(-rate[:, None] * np.array(HORIZONS) ** 1.2)
    return Records(x, (death <= last).astype(np.int64), tuple(map(str, range(count))), times=np.minimum(death, last)), truth


def experiment_of(name: str) -> Experiment:
    model = Choice.model_validate({"name": name, **KNOBS.get(name, {})})
    train = Train(epochs=8, batch=64, optimiser=Choice.model_validate({"name": "adamw", "lr": 0.01}))
    return Experiment(name="risks", data=DATA, inputs=Inputs(columns=("a", "b")), model=model, train=train)


def fitted(experiment: Experiment, train: Records) -> State:
    name = experiment.model.name
    if MODELS[name].fit == "gradient":
        start = initial_state(experiment.model, inputs=2, outputs=experiment.data.outputs, seed=0)
        return fit_gradient(experiment, start, train, rule=Plain(), factor=1.0, seed=0).state
    model = build(experiment.model, inputs=2, outputs=experiment.data.outputs)
    state = model.start(seed=0)
    for _ in range(ROUNDS.get(name, 1)):
        state = model.combine(state, [model.contribution(state, train.inputs, train.outcome, seed=0)], [float(len(train))])
    return state


def test_every_survival_model_of_the_catalogue_is_looked_at() -> None:
    stating = {name for name, spec in MODELS.items() if spec.task == "survival" and states_risks(experiment_of(name))}
    assert stating == set(KNOBS) - {"multimodal"}
    assert not isinstance(build(Choice(name="cox"), inputs=2, outputs=2), Stating)  # it orders patients and states no risk


@pytest.mark.parametrize("name", KNOBS)
def test_risks_never_fall_and_the_lost_are_made_up_for(name: str) -> None:
    experiment, (train, _), (held, truth) = experiment_of(name), planted(1500, 0), planted(1000, 1)
    found = prognosis_of(experiment, fitted(experiment, train), held)
    assert found.shape == (1000, 3) and (np.diff(found, axis=1) >= 0).all() and found.min() >= 0 and found.max() <= 1
    assert abs(found[:, 2].mean() - truth[:, 2].mean()) <= 0.03
    naive = ((train.labels == 1) & (np.asarray(train.times) <= 5)).mean()
    assert naive < truth[:, 2].mean() - 0.08  # who was lost is not alive


@given(st.lists(st.floats(-80, 80), min_size=4, max_size=4), st.lists(st.floats(0.01, 4), min_size=1, max_size=5, unique=True))
@settings(max_examples=50, deadline=None)
def test_whatever_a_network_says_its_risks_never_fall(logits: list[float], horizons: list[float]) -> None:
    data = Data.model_validate({"target": "survival", "horizons": sorted(horizons), "intervals": [0.5, 1.0, 2.5, 4.0]})
    found = risks(torch.tensor([logits], dtype=torch.float64), data=data).numpy()[0]
    assert (np.diff(found) >= 0).all() and found.min() >= 0 and found.max() <= 1
