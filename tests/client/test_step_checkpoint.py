"""A worker that is killed in the middle of a round goes on inside the round, to the same bits."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.guards import Answers, Guards
from client.identity import make_site
from client.site import Site
from client.training.gradient import fit_gradient
from client.training.memory import Memory
from client.training.optimisers import OPTIMISERS
from client.training.rules import rule_of
from client.training.steps import StepFile, Stopped
from client.worker import Worker
from shared_models.core.choices import Choice
from shared_models.core.files import write_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update, to_frame
from tests.client.sites import patch_experiment, patch_site
from tests.client.test_worker import job_of


def experiment_of(optimiser: Choice) -> Experiment:
    experiment = patch_experiment()
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"optimiser": optimiser, "epochs": 4})})


OPTIMISER = {
    "adamw": Choice.model_validate({"name": "adamw", "lr": 0.01}),
    "sgd": Choice.model_validate({"name": "sgd", "lr": 0.05}),
    "sgd with momentum": Choice.model_validate({"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
}


NUMBERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fedprox": {"mu": 0.3},
    "scaffold": {},
    "feddyn": {"alpha": 0.3},
    "fedrep": {"keep": ["head"], "head_share": 0.5},
    "moon": {"mu": 5.0, "tau": 0.5},
    "apfl": {"alpha": 0.5, "adapt": 0.1},
}


@pytest.mark.parametrize(
    ("name", "stop_at", "rule"),
    [
        *((name, stop_at, rule) for rule in ("plain", "fedprox") for stop_at in (1, 3, 6) for name in OPTIMISER),
        *(("adamw", 3, rule) for rule in sorted(NUMBERS.keys() - {"plain", "fedprox"})),
    ],
)
def test_the_bits_are_those_of_an_undisturbed_round(name: str, stop_at: int, rule: str, tmp_path: Path) -> None:
    experiment = experiment_of(OPTIMISER[name])
    records = Worker(Site.load(patch_site(tmp_path, "alpha"))).records(experiment)[0]
    state = job_of(experiment).state

    def fit(steps: StepFile | None, *, round: int = 2, rule: str = rule) -> Any:
        memory = Memory(tmp_path / "strategy", "alpha", "run", round)
        built, _ = rule_of({"name": rule, "lr_factor": 0.5, **NUMBERS[rule]}, {"counted/alpha": np.array(1)} if round > 1 else {}, memory)
        if built.keep:
            built.keys = frozenset(key for key in state if key.startswith("head."))
        return fit_gradient(experiment, state, records, rule=built, factor=0.5, seed=7, steps=steps)

    def known() -> str:
        return digest(Memory(tmp_path / "strategy", "alpha", "run", 3).before())

    fit(None, round=1)  # what the rule remembers of it is part of the round that is stopped
    whole, after = fit(None), known()
    assert whole.steps == 8
    assert (digest(whole.state) == digest(fit(None, rule="plain").state)) == (rule in ("plain", "apfl"))
    steps_done = 0

    def stopping() -> bool:
        nonlocal steps_done
        steps_done += 1
        return steps_done == stop_at

    path = tmp_path / "round.safetensors"
    with pytest.raises(Stopped):
        fit(StepFile(path, stopping=stopping))
    assert path.stat().st_mode & 0o777 == 0o600
    torch.rand(100)  # what happens in between does not matter
    resumed = fit(StepFile(path, stopping=lambda: False))
    assert digest(resumed.state) == digest(whole.state)
    assert (resumed.steps, resumed.loss) == (whole.steps, whole.loss)
    assert known() == after


def test_a_checkpoint_is_written_every_so_many_steps(tmp_path: Path) -> None:
    written = []
    steps = StepFile(tmp_path / "x.safetensors", every=3, every_s=0.0)
    for step in range(1, 10):
        steps.after(step, functools.partial(_state, written, step))
    assert written == [3, 6, 9]
    slow = StepFile(tmp_path / "x.safetensors", every=1, every_s=60.0)
    slow.after(1, functools.partial(_state, written, 1))
    assert written == [3, 6, 9]


def _state(written: list[int], step: int) -> dict:
    written.append(step)
    return {}


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_missing_or_damaged_checkpoint_starts_anew(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert StepFile(path).load() is None


@pytest.mark.parametrize("name", ["weights", "step", "checksum"])
def test_a_flipped_bit_is_noticed_wherever_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "order": np.arange(3)}
    StepFile(path, every=1, every_s=0.0).after(7, lambda: state)
    whole = path.read_bytes()
    kept = StepFile(path).load()
    assert kept is not None
    assert {key: value.tolist() for key, value in kept.items()} == {"weights": [[0, 1, 2], [3, 4, 5]], "order": [0, 1, 2], "step": 7}
    header = 8 + int.from_bytes(whole[:8], "little")
    begin, end = json.loads(whole[8:header])[name]["data_offsets"]
    for at in range(header + begin, header + end):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert StepFile(path).load() is None
    path.write_bytes(whole.replace(b'"weights"', b'"weightz"'))
    assert StepFile(path).load() is None


def test_a_checkpoint_without_a_checksum_counts_for_nothing(tmp_path: Path) -> None:
    write_state(tmp_path / "x.safetensors", {"step": np.array(3)})
    assert StepFile(tmp_path / "x.safetensors").load() is None


def test_a_damaged_checkpoint_starts_the_round_anew(deployed: tuple[Path, Job]) -> None:
    folder, job = deployed
    whole = guarded(folder).handle(job)
    for path in (folder / "workspace" / "steps").iterdir():
        path.unlink()
    looks = iter([False, False, True])
    with pytest.raises(Stopped):
        guarded(folder, stopping=lambda: next(looks)).handle(job)
    (path,) = (folder / "workspace" / "steps").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes([content[-200] ^ 4]) + content[-199:])
    assert to_frame(guarded(folder).handle(job)) == to_frame(whole)


def guarded(folder: Path, *, stopping: Any = bool) -> Worker:
    site = Site.load(folder / "site.toml")
    return Worker(site, guards=Guards.of(folder, site.workspace, stopping=stopping))


@pytest.fixture
def deployed(tmp_path: Path) -> tuple[Path, Job]:
    folder = patch_site(tmp_path, "alpha", patches=60).parent
    make_site(folder, "alpha")
    experiment = experiment_of(OPTIMISER["adamw"])
    worker = guarded(folder)
    assert worker.guards is not None
    worker.guards.approvals.decide("approved", kind="experiment", name=experiment.name, digest=experiment.digest)
    return folder, job_of(experiment)


def test_a_stopped_worker_goes_on_after_its_restart(deployed: tuple[Path, Job]) -> None:
    folder, job = deployed
    whole = guarded(folder).handle(job)
    for path in (folder / "workspace" / "steps").iterdir():
        path.unlink()
    looks = iter([False, False, True])
    with pytest.raises(Stopped):
        guarded(folder, stopping=lambda: next(looks)).handle(job)
    assert [path.suffix for path in (folder / "workspace" / "steps").iterdir()] == [".safetensors"]
    again = guarded(folder).handle(job)
    assert to_frame(again) == to_frame(whole)  # signature, metrics and all
    assert [path.suffix for path in (folder / "workspace" / "steps").iterdir()] == [".frame"]  # the checkpoint is gone


def test_the_same_question_gets_the_same_answer_at_once(deployed: tuple[Path, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, job = deployed
    first = guarded(folder).handle(job)
    monkeypatch.setattr("client.worker.FITTERS", {})  # nothing can be fitted any more
    again = guarded(folder).handle(replace(job))
    assert to_frame(again) == to_frame(first)
    for other in (
        replace(job, run="other"),
        replace(job, round=2),
        replace(job, state={**job.state, next(iter(job.state)): 0 * job.state[next(iter(job.state))]}),
    ):
        assert guarded(folder).handle(other).code == "E_WORKER"  # another question is worked on
    left = (folder / "workspace" / "what-left.jsonl").read_text().splitlines()
    assert len(left) == 2
    assert '"again": true' in left[1]


@pytest.mark.parametrize("at", [0, 31, 32, 40, -1, "cut", "empty"])
def test_a_damaged_answer_is_made_again(at: int | str, deployed: tuple[Path, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, job = deployed
    first = guarded(folder).handle(job)
    (kept,) = (folder / "workspace" / "steps").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    content = bytearray(kept.read_bytes())
    if isinstance(at, int):
        content[at] ^= 1
    kept.write_bytes(content if isinstance(at, int) else content[:-3] if at == "cut" else b"")
    worker = guarded(folder)
    assert worker.guards is not None
    assert worker.guards.answers.find(job) is None
    assert to_frame(worker.handle(job)) == to_frame(first)


def test_an_answer_of_a_key_that_was_changed_is_made_again(tmp_path: Path) -> None:
    job, update = Job(run="r", round=1, kind="fit"), Update(run="r", round=1, site="alpha")
    Answers(tmp_path, key=b"old").keep(job, update)
    assert Answers(tmp_path, key=b"old").find(job) is not None
    assert Answers(tmp_path, key=b"new").find(job) is None


def test_only_the_last_answer_is_kept(deployed: tuple[Path, Job]) -> None:
    folder, job = deployed
    worker = guarded(folder)
    for round in (1, 2, 3):
        worker.handle(replace(job, round=round))
    assert [path.name[:6] for path in (folder / "workspace" / "steps").iterdir()] == ["000003"]


def test_other_patients_do_not_go_on_from_it(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    job = Job(run="r", round=1, kind="fit")
    assert answers.steps(job, ("a", "b")).path != answers.steps(job, ("a", "c")).path
    assert answers.steps(job, ("a", "b")).path == answers.steps(replace(job), ("a", "b")).path


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_gives_and_takes_its_state(name: str) -> None:
    torch.manual_seed(0)
    build = OPTIMISERS[name]
    knobs = {"momentum": 0.9} if name == "sgd" else {}
    one, two = build(**knobs), build(**knobs)
    weights, gradients = torch.randn(7), torch.randn(4, 7)
    two.load({key: value.clone() for key, value in one.state().items()})
    for gradient in gradients[:2]:
        one.step(weights, gradient.clone(), 1.0)
    two.load({key: value.clone() for key, value in one.state().items()})
    other = weights.clone()
    for gradient in gradients[2:]:
        one.step(weights, gradient.clone(), 1.0)
        two.step(other, gradient.clone(), 1.0)
    assert torch.equal(weights, other)


def test_a_killed_process_goes_on(deployed: tuple[Path, Job], tmp_path: Path) -> None:
    folder, job = deployed
    whole = guarded(folder).handle(job)
    for path in (folder / "workspace" / "steps").iterdir():
        path.unlink()
    (tmp_path / "job.frame").write_bytes(to_frame(job))
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom client.guards import Guards\nfrom client.site import Site\n"
        "from client.training.steps import StepFile\nfrom client.worker import Worker\nfrom shared_models.messages import Job, from_frame\n"
        "folder = Path(sys.argv[1])\nsite = Site.load(folder / 'site.toml')\nguards = Guards.of(folder, site.workspace)\n"
        "plain = guards.answers.steps\n"
        "def slow():\n    time.sleep(0.2)\n    return False\n"
        "guards.answers.steps = lambda job, names: StepFile(plain(job, names).path, every=1, every_s=0.0, stopping=slow)\n"
        "Worker(site, guards=guards).handle(from_frame(Path(sys.argv[2]).read_bytes(), Job))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(tmp_path / "job.frame")], env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    until = time.monotonic() + 60
    while not list((folder / "workspace" / "steps").glob("*.safetensors")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list((folder / "workspace" / "steps").glob("0*.safetensors"))
    assert to_frame(guarded(folder).handle(job)) == to_frame(whole)
