"""Exact sums under noise: what one patient can change, what is noise, what is charged, and that the server can still use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.privacy.spending import Spend
from client.training.private_sums import clipped_sums, fit_private_sums
from client.training.records import Records
from client.training.rules import Plain
from client.training.steps import StepFile
from client.training.units import units_of
from shared_models.blocks.spec import PrivateSums
from shared_models.catalogue import MODELS, build
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadState, Refused
from shared_models.core.randomness import SecretRandom
from shared_models.core.state import digest
from shared_models.experiment import Experiment

PATIENTS = 60
TABLE = {"name": "logistic", "centre": [0.0, 0.0], "spread": [1.0, 1.0]}
PATCHES = {"name": "texture_kernel", "features": 32}
MODEL = {
    "lda": {**TABLE, "name": "lda"},
    "logistic": TABLE,
    "ridge": {**TABLE, "name": "ridge"},
    "svm": {**TABLE, "name": "svm", "features": 16},
    "texture_kernel": PATCHES,
}
STATES = [("lda", 0), ("logistic", 0), ("logistic", 1), ("ridge", 0), ("svm", 0), ("svm", 1), ("texture_kernel", 0), ("texture_kernel", 1)]
"""Every model of sums that claims privacy, at every state whose round reads other sums."""


def experiment_of(model: str, **privacy: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "sums",
            "data": {"classes": ["a", "b"], "kind": "patches" if model == "texture_kernel" else "studies"},
            "inputs": {"columns": ["u", "v"]},
            "model": MODEL[model],
            "privacy": {"unit": "patient", "noise_multiplier": 1.0, **privacy},
        }
    )


def records_of(model: str, patients: int = PATIENTS, each: int = 2) -> Records:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(patients) % 2, each)
    if MODELS[model].takes == "table":
        x = rng.normal(0, 1, (len(y), 2)) + 1.5 * y[:, None]
    else:
        x = (rng.normal(-850, 30, (len(y), 1, 9, 9)) - 80 * y[:, None, None, None]).astype(np.float32)
    return Records(x, y.astype(np.int64), tuple(f"p{i}" for i in np.repeat(np.arange(patients), each)))


def model_of(name: str) -> Any:
    return build(experiment_of(name).model, inputs=2 if MODELS[name].takes == "table" else 1, outputs=2)


def state_of(name: str, rounds: int) -> State:
    """The state after rounds without noise."""
    model, records = model_of(name), records_of(name)
    state = model.start(seed=0)
    for _ in range(rounds):
        state = model.combine(state, [model.contribution(state, records.inputs, records.labels, seed=0)], [1.0])
    return state


def fit(name: str, state: State, *, spends: list[Spend] | None = None, secret: SecretRandom | None = None, **more: Any) -> Any:
    known = {"records": records_of(name), "spend": (lambda spent: None) if spends is None else spends.append, **more}
    experiment = known.pop("experiment", experiment_of(name))
    return fit_private_sums(experiment, state, known.pop("records"), rule=Plain(), factor=1.0, seed=0, secret=secret, **known)


def flat(sums: State) -> np.ndarray:
    return np.concatenate([sums[key].ravel() for key in sorted(sums)])


def claims(name: str) -> bool:
    return isinstance(build(Choice(name=name), inputs=2, outputs=2), PrivateSums)


def test_every_model_of_sums_that_claims_privacy_is_in_the_battery() -> None:
    claiming = {name for name, spec in MODELS.items() if spec.fit == "sums" and spec.task == "diagnosis" and claims(name)}
    assert claiming == {name for name, _ in STATES}


@pytest.mark.parametrize(("name", "rounds"), STATES)
class TestEveryState:
    def test_the_lengths_are_those_of_each_record_alone(self, name: str, rounds: int) -> None:
        model, state, records = model_of(name), state_of(name, rounds), records_of(name, 5, 1)
        parts = model.parts(state)
        for number, length in enumerate(model.lengths(state, records.inputs, records.labels)):
            alone = model.contribution(state, records.inputs[[number]], records.labels[[number]], seed=0)
            assert np.linalg.norm(flat({key: alone[key] for key in parts})) == pytest.approx(length, rel=1e-9)

    @pytest.mark.parametrize("clip", [0.05, 1.0])
    def test_however_many_records_a_patient_moves_the_sums_by_the_clip_at_most(self, name: str, rounds: int, clip: float) -> None:
        model, state, records = model_of(name), state_of(name, rounds), records_of(name, 6, 3)
        whole = flat(clipped_sums(model, state, records, units_of(records, "patient"), clip=clip))
        for patient in range(6):
            others = records.take([i for i, n in enumerate(records.names) if n != f"p{patient}"])
            moved = np.linalg.norm(whole - flat(clipped_sums(model, state, others, units_of(others, "patient"), clip=clip)))
            assert 0 < moved <= clip * (1 + 1e-9)

    def test_a_large_clip_and_no_weights_leave_the_exact_sums(self, name: str, rounds: int) -> None:
        model, state, records = model_of(name), state_of(name, rounds), records_of(name, 6, 1)
        exact = model.contribution(state, records.inputs, records.labels, seed=0)
        got = clipped_sums(model, state, records, units_of(records, "patient"), clip=1e6)
        for key in exact:
            wanted = exact[key] if key in model.parts(state) else 0 * exact[key]
            np.testing.assert_allclose(got[key], wanted, rtol=1e-9, atol=1e-9)

    def test_the_noise_has_its_standard_deviation(self, name: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
        model, state, records = model_of(name), state_of(name, rounds), records_of(name)
        monkeypatch.setattr(type(model), "mend", lambda self, sums: sums)
        still = clipped_sums(model, state, records, units_of(records, "patient"), clip=0.5)
        parts = model.parts(state)
        noise = []
        for number in range(300 if len(still[parts[0]]) < 9 else 8):
            noisy = fit(
                name, state, experiment=experiment_of(name, noise_multiplier=3.0, clip=0.5), secret=SecretRandom(bytes([number % 256]) * 32)
            ).state
            noise.append(np.concatenate([(noisy[key] - still[key]).ravel() for key in parts]))
            assert all(not noisy[key].any() for key in noisy if key not in parts)
        assert np.std(np.concatenate(noise)) == pytest.approx(1.5, rel=0.1)

    def test_the_server_lets_it_pass_and_can_use_it(self, name: str, rounds: int) -> None:
        model, state = model_of(name), state_of(name, rounds)
        noisy = fit(name, state).state
        model.check(noisy, state)
        assert all(np.isfinite(value).all() for value in model.combine(state, [noisy], [1.0]).values())

    def test_it_is_charged_before_the_patients_are_read(self, name: str, rounds: int) -> None:
        spends: list[Spend] = []
        fit(name, state_of(name, rounds), spends=spends)
        (spent,) = spends
        assert (spent.sigma, spent.q, spent.steps, spent.patients, spent.unit) == (1.0, 1.0, 1, PATIENTS, "patient")

        def refuse(spent: Spend) -> None:
            raise Refused("enough", code="E_BUDGET")

        with pytest.raises(Refused):
            fit(name, state_of(name, rounds), spend=refuse)

    def test_a_killed_round_has_the_same_nonce_and_noise(self, name: str, rounds: int, tmp_path: Any) -> None:
        spends: list[Spend] = []
        one = fit(name, state_of(name, rounds), spends=spends, steps=StepFile(tmp_path / "r.safetensors"))
        two = fit(name, state_of(name, rounds), spends=spends, steps=StepFile(tmp_path / "r.safetensors"))
        assert digest(one.state) == digest(two.state)
        assert spends[0] == spends[1]


def test_a_patient_whose_numbers_are_broken_adds_nothing() -> None:
    model, state, records = model_of("logistic"), state_of("logistic", 1), records_of("logistic", 6, 1)
    healthy = records.take(range(5))
    broken = replace(records, inputs=np.concatenate([healthy.inputs, np.full_like(records.inputs[:1], np.inf)]))
    with np.errstate(all="ignore"):
        got = clipped_sums(model, state, broken, units_of(broken, "patient"), clip=1.0)
    np.testing.assert_allclose(flat(got), flat(clipped_sums(model, state, healthy, units_of(healthy, "patient"), clip=1.0)))


@pytest.mark.parametrize(("name", "rounds"), [("lda", 1), ("ridge", 1), ("texture_kernel", 2)])
def test_sums_that_were_paid_for_are_not_sent_again(name: str, rounds: int) -> None:
    spends: list[Spend] = []
    state = state_of(name, rounds)
    again = fit(name, state, spends=spends)
    assert spends == []
    assert not flat(again.state).any()
    assert digest(model_of(name).combine(state, [again.state], [1.0])) == digest(state)


def test_hardly_any_noise_learns_as_well_as_none() -> None:
    model, records = model_of("texture_kernel"), records_of("texture_kernel")
    state = model.start(seed=0)
    for _ in range(2):
        noisy = fit("texture_kernel", state, experiment=experiment_of("texture_kernel", noise_multiplier=0.01))
        state = model.combine(state, [noisy.state], [1.0])
    assert (model.predict(state, records.inputs).argmax(1) == records.labels).mean() > 0.95


def test_newton_steps_under_noise_learn() -> None:
    model, records = model_of("logistic"), records_of("logistic", 400, 1)
    state = model.start(seed=0)
    for _ in range(4):
        noisy = fit("logistic", state, records=records, experiment=experiment_of("logistic", noise_multiplier=2.0), secret=SecretRandom(bytes(32)))
        state = model.combine(state, [noisy.state], [1.0])
    assert (model.predict(state, records.inputs).argmax(1) == records.labels).mean() > 0.8


def test_columns_without_a_public_scale_are_refused() -> None:
    experiment = experiment_of("logistic").model_copy(
        update={"model": experiment_of("logistic").model.model_copy(update={"centre": (), "spread": ()})}
    )
    model = build(experiment.model, inputs=2, outputs=2)
    with pytest.raises(BadState, match="public scale"):
        fit("logistic", model.start(seed=0), experiment=experiment)


def test_a_scale_for_other_columns_is_refused() -> None:
    with pytest.raises(BadChoice, match="one number a column"):
        build(experiment_of("logistic").model, inputs=3, outputs=2)


def test_a_model_without_a_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.private_sums.build", lambda choice, inputs, outputs: object())
    with pytest.raises(BadChoice, match="no bound"):
        fit("logistic", state_of("logistic", 1))
