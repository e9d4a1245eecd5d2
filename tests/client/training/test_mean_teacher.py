"""A mean teacher: its weights are a mean of the student's, and consistency is asked where nobody has drawn and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.training.gradient import fit_gradient, network_of
from client.training.micro_batch import MicroBatch
from client.training.records import Records
from client.training.rules import Plain
from client.training.steps import StepFile, Stopped
from client.training.used import check_unused
from shared_models.catalogue import build
from shared_models.core.choices import Choice
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.patterns import UNLABELLED
from sim.check import faults
from sim.experiments import find
from tests.client.training.test_targets import PATTERNS, experiment_of, records_of, start


def asked(steps: int = 3, **knobs: Any) -> Experiment:
    model = {"name": "mean_teacher", "network": {"name": "hrnet", "widths": [4, 8]}, "weight": 50.0, "ramp": 2, **knobs}
    experiment = experiment_of("hrnet", PATTERNS, steps=steps, batch=2, augment=[{"name": "flip"}])
    return experiment.model_copy(update={"model": Choice.model_validate(model)})


def with_open(records: Records, count: int = 1) -> Records:
    """Records with further slices that nobody has drawn on."""
    assert records.targets is not None
    inputs = np.concatenate([records.inputs, 0.9 * records.inputs[:, :count]], axis=1)
    return replace(records, inputs=inputs, targets=np.concatenate([records.targets, np.full_like(records.targets[:, :count], UNLABELLED)], axis=1))


def fit(experiment: Experiment, records: Records, steps: StepFile | None = None) -> dict[str, np.ndarray]:
    return fit_gradient(experiment, start(experiment), records, rule=Plain(), factor=1.0, seed=3, steps=steps).state


def student(state: dict[str, np.ndarray]) -> str:
    return digest({key.removeprefix("student."): value for key, value in state.items() if key.startswith("student.")})


def test_without_open_slices_or_weight_it_is_the_supervised_run_to_the_bit() -> None:
    plain = experiment_of("hrnet", PATTERNS, steps=3, batch=2, augment=[{"name": "flip"}])
    wanted = student({f"student.{key}": value for key, value in fit(plain, records_of()).items()})
    assert student(fit(asked(), records_of())) == wanted
    assert student(fit(asked(weight=0.0), with_open(records_of()))) == wanted
    assert student(fit(asked(), with_open(records_of()))) != wanted


def test_the_teacher_is_the_mean_of_the_students() -> None:
    experiment, records, students = asked(decay=0.9, ramp=40), with_open(records_of()), []
    for steps in range(1, 6):  # the student after one step fewer is the one that a step begins with
        students.append(fit(asked(steps, decay=0.9, ramp=40), records))
    mean = {key: value.copy() for key, value in start(experiment).items() if key.startswith("student.")}
    for number, after in enumerate(students[:-1], 1):
        stays = min(0.9, 1 - 1 / (1 + number))
        mean = {key: stays * value + (1 - stays) * after[key] for key, value in mean.items()}
    for key, value in mean.items():
        np.testing.assert_allclose(students[-1][key.replace("student.", "teacher.")], value, atol=1e-6, err_msg=key)
    assert students[-1]["progress"] == pytest.approx(5 / 40)


def test_a_site_without_a_drawing_learns_from_consistency_alone() -> None:
    records = with_open(records_of())
    bare = replace(records, targets=np.full_like(records.targets, UNLABELLED))
    state = fit(asked(), bare)
    assert student(state) != student(start(asked()))
    check_unused(asked(), state, start(asked()), bare.inputs.shape[1:])
    still = fit(asked(weight=0.0), bare)
    assert student(still) == student(start(asked()))


def test_consistency_has_a_gradient_on_open_pixels_alone() -> None:
    network = build(asked(noise=0.0, shift=0.0).model, inputs=1, outputs=3).train()
    with torch.no_grad():
        network.progress.fill_(1.0)
        for weights in network.student.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    records, targets = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    assert network.losses(records, targets).tolist() == [0.0]
    targets[:, 1, :8] = UNLABELLED
    records.requires_grad_(True)
    network.losses(records, targets).sum().backward()
    assert records.grad is not None
    assert (records.grad[:, [0, 2]] == 0).all()
    assert (records.grad[:, 1] != 0).any()


def test_what_predicts_is_the_teacher() -> None:
    experiment, records = asked(5), with_open(records_of())
    state = fit(experiment, records)
    network = network_of(experiment, state)
    alone = network_of(experiment_of("hrnet", PATTERNS), {key.removeprefix("teacher."): v for key, v in state.items() if key.startswith("teacher.")})
    batch = torch.from_numpy(records.inputs)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), alone(batch), rtol=0, atol=0)


def test_parts_of_a_batch_count_as_one_step_and_a_killed_round_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment, records = asked(4), with_open(records_of())
    whole = fit(experiment, records)
    with pytest.raises(Stopped):
        fit(experiment, records, StepFile(tmp_path / "step", stopping=tmp_path.exists))
    assert digest(fit(experiment, records, StepFile(tmp_path / "step", every_s=1e9))) == digest(whole)
    monkeypatch.setattr("client.training.gradient.in_parts", _one_by_one)
    assert fit(experiment, records)["progress"] == whole["progress"]


def _one_by_one(count: int, fits: MicroBatch, work: Any, *, again: Any = None) -> list[Any]:
    del fits, again
    return [work(slice(at, at + 1)) for at in range(count)]


def test_a_strategy_that_would_move_the_teacher_is_refused_by_the_check() -> None:
    assert not faults(find("esseg_ild", []))
    told = faults(find("esseg_ild", ['strategy={name="fedyogi"}']))
    assert any("the teacher of 'mean_teacher'" in fault for fault in told)
