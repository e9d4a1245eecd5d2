"""DP-SGD over patients: the fast ways against the slow obvious one for every network, what a patient can do at most, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from client.privacy.spending import Spend
from client.training.device import Precision
from client.training.gradient import fit_gradient
from client.training.per_unit import GRAD_SAMPLERS, pad, refuse_shared_statistics, sampler_for
from client.training.private import Learner, PrivateGradient, fit_private, learner_of
from client.training.records import Records
from client.training.rules import FedProx, Plain, Rule
from client.training.steps import StepFile, Stopped
from client.training.units import noise_adds_up, units_of
from shared_models.catalogue import MODELS, initial_state, inputs_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadCohort, BadExperiment, Refused
from shared_models.core.randomness import SecretRandom
from shared_models.core.state import digest, norm, subtract
from shared_models.experiment import Experiment
from tests.shared_models.tiny import TINY, shape_of

CPU = torch.device("cpu")
FULL = Precision("full", CPU)
NETWORKS = sorted(name for name, spec in MODELS.items() if spec.fit == "gradient" and spec.objective is None)
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    **{name: (TINY[name], (1, *shape_of(name)[1:]) if MODELS[name].takes == "slices" else shape_of(name)) for name in NETWORKS},
    "mil_cnn": ({"widths": [4, 4], "features": 8, "bins": 4, "dropout": 0.0}, (3, 16, 16)),
    "resnet18": ({"width": 4}, (1, 16, 16, 16)),
    "linear": ({}, (3,)),
}
"""Every gradient-trained model at its smallest, and the shape of one record."""


def experiment_of(
    name: str = "mil_cnn", *, strategy: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **privacy: Any
) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "private",
            "data": {"classes": ["a", "b"]},
            "model": {"name": name, **SMALL[name][0]},
            "inputs": {"columns": [f"c{number + 1}" for number in range(SMALL[name][1][0])] if MODELS[name].takes == "table" else []},
            "train": {"batch": 4, "optimiser": {"name": "sgd", "lr": 0.1}, "schedule": "constant", **(train or {})},
            "privacy": {"unit": "patient", "noise_multiplier": 1.0, **privacy},
            **({"strategy": strategy} if strategy else {}),
        }
    )


def records_of(name: str, patients: int, *, visits: tuple[int, ...] = (1,)) -> Records:
    """Patient i has ``visits[i % len(visits)]`` records."""
    rng = np.random.default_rng(3)
    names = tuple(f"p{i}" for i in range(patients) for _ in range(visits[i % len(visits)]))
    x = rng.uniform(0, 1, (len(names), *SMALL[name][1])).astype(np.float32)
    if MODELS[name].units == "hu":
        x = x * 300 - 1000
    return Records(x, np.array([int(n[1:]) % 2 for n in names], np.int64), names)


def start_of(name: str) -> dict[str, np.ndarray]:
    return initial_state(Choice.model_validate({"name": name, **SMALL[name][0]}), inputs=inputs_of(experiment_of(name)), outputs=2, seed=0)


def prepared(name: str) -> Learner:
    learner = learner_of(experiment_of(name))
    learner.flat.load(start_of(name))
    learner.flat.model.train()
    return learner


def gradient_of(learner: Learner, records: Records, numbers: np.ndarray) -> torch.Tensor:
    """The plain gradient of the mean loss over records, as the ordinary loop finds it."""
    x, y = torch.from_numpy(records.inputs[numbers]), torch.from_numpy(records.labels[numbers])
    learner.flat.backward(learner.loss_of(learner.flat.model(x), y).mean())
    return learner.flat.gradient.clone()


def drawn(
    experiment: Experiment, records: Records, *, learner: Learner | None = None, q: float = 1.0, secret: SecretRandom | None = None
) -> PrivateGradient:
    units = units_of(records, experiment.privacy.unit)
    generator = torch.Generator().manual_seed(0)
    return PrivateGradient(
        experiment, learner or prepared(experiment.model.name), records, units, q=q, generator=generator, secret=secret or SecretRandom(bytes(32))
    )


def without_noise(gradient: PrivateGradient) -> PrivateGradient:
    gradient.noise = 0.0
    return gradient


def close(one: torch.Tensor, two: torch.Tensor) -> None:
    # GroupNorm over a single voxel (the last stage of a small DenseNet) makes much of the last bits; a wrong clip is far off this.
    assert float((one - two).norm()) <= 2e-3 * float(two.norm()) + 1e-7


@pytest.mark.parametrize("how", GRAD_SAMPLERS)
@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_without_noise_and_clip_a_step_is_the_plain_step(self, name: str, how: str) -> None:
        records = records_of(name, 5)
        gradient = without_noise(drawn(experiment_of(name, grad_sample=how, clip=1e9, microbatch=3), records))
        into = torch.full_like(gradient.learner.flat.gradient, 9.0)
        gradient.draw(into)
        close(into, gradient_of(gradient.learner, records, np.arange(5)))

    def test_clipping_is_that_of_a_loop_over_patients(self, name: str, how: str) -> None:
        records = records_of(name, 4, visits=(1, 3))
        learner = prepared(name)
        each = [gradient_of(learner, records, unit) for unit in units_of(records, "patient")]
        clip = float(torch.stack([one.norm() for one in each]).median()) * 1.001  # some are cut, some are not
        wanted = sum(one * min(1.0, clip / float(one.norm())) for one in each)
        got = drawn(experiment_of(name, grad_sample=how, clip=clip, microbatch=3), records, learner=learner)
        close(torch.stack([got.clipped_sum(np.array([0, 1, 2])), got.clipped_sum(np.array([3]))]).sum(0), torch.as_tensor(wanted))

    def test_a_patient_whose_numbers_are_broken_adds_nothing(self, name: str, how: str) -> None:
        records = records_of(name, 3)
        gradient = drawn(experiment_of(name, grad_sample=how, clip=0.5), records)
        healthy = gradient.clipped_sum(np.array([0, 2]))
        records.inputs[1] = np.inf if MODELS[name].takes_missing else np.nan  # where a missing value is NaN, that is no broken number
        close(gradient.clipped_sum(np.array([0, 1, 2])), healthy)


def test_the_per_unit_gradients_are_those_of_opacus() -> None:
    from opacus.grad_sample import GradSampleModule

    learner = prepared("patch_cnn")
    records = records_of("patch_cnn", 6)
    wrapped = GradSampleModule(learner.flat.model, strict=False, loss_reduction="sum")
    try:
        learner.loss_of(wrapped(torch.from_numpy(records.inputs).requires_grad_()), torch.from_numpy(records.labels)).sum().backward()
        each = torch.cat([weight.grad_sample.flatten(1) for weight in wrapped.parameters()], dim=1)
    finally:
        wrapped.to_standard_module()
    lengths = each.norm(dim=1)
    wanted = (0.3 / lengths).clamp(max=1.0) @ each
    close(drawn(experiment_of("patch_cnn", clip=0.3), records, learner=learner).clipped_sum(np.arange(6)), wanted)


@pytest.mark.parametrize("records", [1, 3, 8])
def test_however_many_records_a_patient_moves_the_sum_by_the_clip_at_most(records: int) -> None:
    many = records_of("mil_cnn", 3, visits=(1, 2, records))
    gradient = drawn(experiment_of(clip=0.01), many)
    with_them, without = gradient.clipped_sum(np.array([0, 1, 2])), gradient.clipped_sum(np.array([0, 1]))
    assert float((with_them - without).norm()) == pytest.approx(0.01, rel=1e-4)


def test_an_empty_draw_is_noise_alone() -> None:
    gradient = drawn(experiment_of(noise_multiplier=2.0, clip=3.0), records_of("mil_cnn", 4), q=1e-12)
    gradient.expected = 1.0
    into = torch.zeros_like(gradient.learner.flat.gradient)
    gradient.draw(into)
    assert float(into.std()) == pytest.approx(6.0, rel=0.15)


@pytest.mark.parametrize("share", [1, 3])
def test_the_noise_has_its_standard_deviation(share: int) -> None:
    experiment = experiment_of(noise_multiplier=1.5, clip=0.2, noise_share=share)
    gradient = drawn(experiment, records_of("mil_cnn", 4), q=1.0)
    into = torch.zeros_like(gradient.learner.flat.gradient)
    mean = gradient.clipped_sum(np.arange(4)) / 4
    noise = []
    for _ in range(20):
        gradient.draw(into)
        noise.append(into - mean)
    assert float(torch.cat(noise).std()) == pytest.approx(1.5 * 0.2 / 4 / math.sqrt(share), rel=0.05)


def test_who_is_drawn_is_poisson_over_patients() -> None:
    gradient = drawn(experiment_of(microbatch=64), records_of("mil_cnn", 40, visits=(1, 5)), q=0.25)
    sizes: list[int] = []
    gradient.clipped_sum = lambda chosen: sizes.append(len(chosen)) or torch.zeros(1)  # type: ignore[method-assign]
    into = torch.zeros_like(gradient.learner.flat.gradient)
    for _ in range(400):
        gradient.draw(into)
    assert np.mean(sizes) == pytest.approx(10.0, abs=0.6)
    assert np.var(sizes) == pytest.approx(7.5, abs=2.0)  # 40 * 1/4 * 3/4: a fixed batch would have none


def test_no_more_than_a_micro_batch_is_in_memory() -> None:
    gradient = drawn(experiment_of(microbatch=3, clip=0.1), records_of("mil_cnn", 10))
    seen: list[int] = []
    sampler = gradient.sampler
    gradient.sampler = lambda model, loss, units, clip, precision: (seen.append(len(units.labels)), sampler(model, loss, units, clip, precision))[1]
    into = torch.zeros_like(gradient.learner.flat.gradient)
    gradient.draw(into)
    assert seen == [3, 3, 3, 1]


def test_what_does_not_fit_is_taken_in_halves_to_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = drawn(experiment_of(clip=0.1), records_of("mil_cnn", 8))
    whole, sampler = gradient.clipped_sum(np.arange(8)), gradient.sampler

    def small(model: nn.Module, loss: Any, units: Any, clip: float, precision: Any) -> torch.Tensor:
        if len(units.labels) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return sampler(model, loss, units, clip, precision)

    gradient.sampler = small
    close(gradient.clipped_sum(np.arange(8)), whole)
    assert gradient.fits.size == 2


@pytest.mark.parametrize("how", GRAD_SAMPLERS)
def test_mixed_precision_clips_in_full_precision(how: str) -> None:
    learner, records = prepared("mil_cnn"), records_of("mil_cnn", 4)
    units = pad(torch.from_numpy(records.inputs), torch.from_numpy(records.labels), [1, 1, 1, 1])
    full = GRAD_SAMPLERS[how](learner.flat.model, learner.loss_of, units, 0.5, FULL)
    mixed = GRAD_SAMPLERS[how](learner.flat.model, learner.loss_of, units, 0.5, Precision("mixed", CPU, narrow=torch.bfloat16))
    assert mixed.dtype == torch.float32
    assert 0 < float((mixed - full).norm()) < 0.05 * float(full.norm())


class TestARound:
    START = start_of("mil_cnn")
    RECORDS = records_of("mil_cnn", 60, visits=(1, 2))

    def fit(self, experiment: Experiment | None = None, *, spends: list[Spend] | None = None, rule: Rule | None = None, **more: Any) -> Any:
        spend = (lambda spent: None) if spends is None else spends.append
        known = {"records": self.RECORDS, "seed": 1, "factor": 1.0, "secret": SecretRandom(bytes(32)), "spend": spend, **more}
        return fit_private(experiment or experiment_of(), self.START, known.pop("records"), rule=rule or Plain(), **known)

    def test_what_is_spent_is_said_in_patients(self) -> None:
        spends: list[Spend] = []
        fitted = self.fit(experiment_of(train={"batch": 9, "epochs": 2}, noise_multiplier=0.7, clip=0.4), spends=spends)
        (spent,) = spends
        assert (spent.sigma, spent.q, spent.steps, spent.patients, spent.unit, spent.clip, spent.delta) == (0.7, 9 / 60, 14, 60, "patient", 0.4, 1e-5)
        assert fitted.steps == 14
        assert fitted.loss is None

    def test_records_without_patients(self) -> None:
        spends: list[Spend] = []
        records = replace(self.RECORDS, identified=False)
        with pytest.raises(BadCohort):
            self.fit(spends=spends, records=records)
        self.fit(experiment_of(unit="record"), spends=spends, records=records)
        assert [(spent.patients, spent.unit) for spent in spends] == [(90, "record")]

    def test_a_ledger_that_refuses_ends_the_round_before_its_first_step(self) -> None:
        def refuse(spent: Spend) -> None:
            raise Refused("enough", code="E_BUDGET")

        with pytest.raises(Refused, match="enough"):
            self.fit(spend=refuse, learner=None)

    @pytest.mark.parametrize(("patients", "delta", "code"), [(49, 1e-5, "E_FEW_CASES"), (60, 1 / 600, "E_PRIVACY_DELTA")])
    def test_what_no_claim_can_be_made_for(self, patients: int, delta: float, code: str) -> None:
        spends: list[Spend] = []
        with pytest.raises(Refused) as refused:
            self.fit(experiment_of(delta=delta), spends=spends, records=records_of("mil_cnn", patients))
        assert (refused.value.code, spends) == (code, [])

    def test_two_rounds_differ_in_noise_and_in_who_is_drawn(self) -> None:
        assert digest(self.fit(secret=None).state) != digest(self.fit(secret=None).state)
        assert digest(self.fit().state) == digest(self.fit().state)

    def test_a_batch_as_large_as_the_site_draws_everybody(self) -> None:
        spends: list[Spend] = []
        self.fit(experiment_of(train={"batch": 500}), spends=spends)
        assert (spends[0].q, spends[0].steps) == (1.0, 1)

    def test_the_rule_comes_after_the_noise(self) -> None:
        order: list[str] = []

        class Watching(Plain):
            def correct(self, weights: torch.Tensor, gradient: torch.Tensor) -> None:
                order.append("corrected")
                assert float(gradient.norm()) > 0

        self.fit(rule=Watching(), experiment=experiment_of(train={"steps": 2}))
        assert order == ["corrected", "corrected"]

    def test_a_strong_proximal_term_holds_noise_back_too(self) -> None:
        free = self.fit(experiment_of(train={"steps": 30}))
        held = self.fit(experiment_of(train={"steps": 30}), rule=FedProx(8.0))
        assert norm(subtract(held.state, self.START)) < 0.6 * norm(subtract(free.state, self.START))

    def test_one_step_with_all_patients_and_hardly_any_noise_is_the_plain_step(self) -> None:
        records = records_of("mil_cnn", 60)
        train = {"batch": 60, "steps": 1}
        private = self.fit(experiment_of(train=train, noise_multiplier=1e-9, clip=1e3), records=records)
        plain = fit_gradient(experiment_of(train=train), self.START, records, rule=Plain(), factor=1.0, seed=1)
        assert norm(subtract(private.state, plain.state)) < 1e-4 * norm(subtract(plain.state, self.START)) + 1e-6

    @pytest.mark.parametrize("stop_at", [1, 3])
    def test_a_killed_round_goes_on_to_the_same_bits_under_the_same_nonce(self, stop_at: int, tmp_path: Path) -> None:
        experiment = experiment_of(train={"steps": 5, "optimiser": {"name": "adamw", "lr": 0.01}, "augment": [{"name": "flip"}]})
        spends: list[Spend] = []
        whole = self.fit(experiment, spends=spends)
        path = tmp_path / "round.safetensors"
        looks = iter([*[False] * (stop_at - 1), True])
        with pytest.raises(Stopped):
            self.fit(experiment, spends=spends, steps=StepFile(path, stopping=lambda: next(looks)))
        assert path.stat().st_mode & 0o777 == 0o600
        resumed = self.fit(experiment, spends=spends, steps=StepFile(path), secret=None)  # nothing is drawn anew
        assert digest(resumed.state) == digest(whole.state)
        assert spends[1] == spends[2]
        assert spends[0].nonce != spends[1].nonce

    def test_a_round_that_dies_between_charge_and_first_step_is_charged_once(self, tmp_path: Path) -> None:
        spends: list[Spend] = []

        def dying(spent: Spend) -> None:
            spends.append(spent)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.fit(spend=dying, steps=StepFile(tmp_path / "round.safetensors"))
        self.fit(spends=spends, steps=StepFile(tmp_path / "round.safetensors"), secret=None)
        assert spends[0] == spends[1]


SUMS = [
    ({"train": {"steps": 1}, "strategy": {"name": "fedavg", "weighting": "equal"}}, True),
    ({"train": {"steps": 2}, "strategy": {"name": "fedavg", "weighting": "equal"}}, False),
    ({"train": {"steps": 1}, "strategy": {"name": "fedavg"}}, False),
    ({"train": {"steps": 1}}, False),
    ({"train": {"steps": 1, "optimiser": {"name": "adamw"}}, "strategy": {"name": "fedavg", "weighting": "equal"}}, False),
    ({"train": {"steps": 1, "clip_norm": 1.0}, "strategy": {"name": "fedavg", "weighting": "equal"}}, False),
]


@pytest.mark.parametrize(("settings", "adds"), SUMS)
def test_when_the_noise_of_several_sites_adds_up(settings: dict[str, Any], adds: bool) -> None:
    experiment = experiment_of(**settings, noise_share=3, noise_multiplier=1.5)
    assert noise_adds_up(experiment, experiment.train.steps or 0) is adds
    claimed: list[Spend] = []
    for summed in (True, False):
        fit_private(experiment, start_of("mil_cnn"), records_of("mil_cnn", 50), rule=Plain(), factor=1.0, seed=0, spend=claimed.append, summed=summed)
    assert [spent.sigma for spent in claimed] == pytest.approx([1.5 if adds else 1.5 / math.sqrt(3), 1.5 / math.sqrt(3)])


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.BatchNorm1d(4, track_running_stats=False), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_layers_that_mix_or_remember_patients_are_refused_with_the_way_out(layer: nn.Module) -> None:
    with pytest.raises(BadChoice, match=r"GroupNorm|without_batch_norm"):
        refuse_shared_statistics(nn.Sequential(nn.Conv2d(1, 4, 3), layer))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_of_the_catalogue_mixes_patients(name: str) -> None:
    refuse_shared_statistics(learner_of(experiment_of(name)).flat.model)


@pytest.mark.parametrize(("choice", "takes", "found"), [("auto", "slices", "loop"), ("auto", "patch", "functorch"), ("loop", "patch", "loop")])
def test_the_way_that_is_taken(choice: str, takes: str, found: str) -> None:
    assert sampler_for(choice, takes, CPU) == found


FAULTS = [
    ({"unit": "patient"}, {}, "noise_multiplier is required"),
    ({"unit": "patient", "noise_multiplier": 1.0}, {"train": {"class_weights": "prior"}}, "class_weights must be none"),
    ({"unit": "record", "noise_multiplier": 1.0}, {"train": {"class_weights": "balanced"}}, "class_weights must be none"),
    ({"unit": "patient", "noise_multiplier": 1.0, "noise_share": 4}, {}, "must not exceed federation.quorum"),
    ({"unit": "patient", "noise_multiplier": 0.0}, {}, "greater than 0"),
    ({"unit": "slice", "noise_multiplier": 1.0}, {}, "privacy.unit"),
]


@pytest.mark.parametrize(("privacy", "more", "words"), FAULTS)
def test_experiments_that_cannot_be_private(privacy: dict[str, Any], more: dict[str, Any], words: str) -> None:
    from shared_models.core.choices import validated

    document = {"name": "x", "data": {"classes": ["a", "b"]}, "model": {"name": "mil_cnn"}, "privacy": privacy, **more}
    with pytest.raises(BadExperiment, match=words):
        validated(Experiment, document, what="experiment")
