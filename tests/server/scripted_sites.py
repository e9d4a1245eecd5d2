"""A run over a model of four numbers, without torch: sites whose changes and metrics are written down, and a process that dies at any write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs.checkpoint import RoundState
from server.runs.log import read_rounds
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.files import write_json, write_state
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Inputs
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid

SITES = ("alpha", "beta", "delta", "gamma")
CASES = {"alpha": 10, "beta": 20, "delta": 30, "gamma": 40}
START: State = {"w": np.zeros(4, np.float32), "n": np.array(0)}


def experiment_of(strategy: str = "fedavg", knobs: dict[str, Any] | None = None, *, seed: int = 0, **federation: Any) -> Experiment:
    settings = {"rounds": 6, "quorum": 2, "deadline_s": 5.0, "retries": 1, **federation}
    document = {
        "name": "scripted",
        "seed": seed,
        "data": Data(classes=("a", "b")),
        "model": Choice(name="linear"),
        "inputs": Inputs(columns=("x",)),
        "train": {"schedule": "constant"},
        "strategy": {"name": strategy, **(knobs or {})},
        "federation": settings,
    }
    return Experiment.model_validate(document)


def change(name: str, round: int) -> np.ndarray:
    """What `name` adds to whatever it receives in `round`."""
    return np.random.default_rng([round, *name.encode()]).normal(0, 0.1, 4).astype(np.float32)


def site(name: str, *, told: list[tuple[str, int, str]] | None = None, metrics: Callable[[Job], dict[str, float]] | None = None) -> Handle:
    """A site; `told` collects who was asked in which round with which state, `metrics` says what it measures on what it receives."""

    def handle(job: Job) -> Update:
        empty = Update(run=job.run, round=job.round, site=name)
        if job.kind == "hello":
            return empty
        found = metrics(job) if metrics else {}
        if job.kind == "judge":
            return Update(run=job.run, round=job.round, site=name, metrics=found)
        if told is not None:
            told.append((name, job.round, digest(job.state)))
        state = {"w": job.state["w"] + change(name, job.round), "n": job.state["n"] + 1}
        return Update(run=job.run, round=job.round, site=name, state=state, num_cases=CASES[name], steps=1, metrics=found)

    return handle


def begun(folder: Path, experiment: Experiment) -> Path:
    """A run folder whose round 0 is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_state(folder / "start.safetensors", START)
    write_json(folder / "start.json", {"run": "r" * 16, "inputs": 1, "experiment": experiment.digest})
    return folder


def run(grid: LoopGrid, folder: Path, experiment: Experiment, **more: Any) -> RoundState:
    if not (folder / "start.json").exists():
        begun(folder, experiment)
    return run_experiment(grid, experiment, folder, **{"durable": False, **more})


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = read_rounds(folder / "rounds.jsonl")
    for line in lines:
        line.pop("wall_s")
    return lines


class Killed(BaseException):
    """The process ends here."""


def dies_at(monkeypatch: pytest.MonkeyPatch, write: int, act: Callable[[], object]) -> bool:
    """Do `act`; die at that rename of a file, odd ones just before it and even ones just after. Return whether it came to an end."""
    replace, count = Path.replace, 0

    def counted(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count == write and count % 2:
            raise Killed
        done = replace(self, target)
        if count == write:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        try:
            act()
        except Killed:
            return False
    return True


def survives_every_kill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, experiment: Experiment, grid: Callable[[], LoopGrid], every: int = 1, **more: Any
) -> None:
    """Kill a run at each of its writes (or at one in `every`), continue it, and compare with the undisturbed one, bit for bit."""
    whole = run(grid(), tmp_path / "whole", experiment, **more)
    for write in range(1, 1000, every):
        folder = begun(tmp_path / str(write), experiment)
        if dies_at(monkeypatch, write, lambda folder=folder: run(grid(), folder, experiment, **more)):
            assert write > 10
            return
        continued = run(grid(), folder, experiment, **more)
        for ours, theirs in ((continued.state, whole.state), (continued.own, whole.own), (continued.loop, whole.loop)):
            assert digest(ours) == digest(theirs)
        assert (folder / "final.safetensors").read_bytes() == (tmp_path / "whole" / "final.safetensors").read_bytes()
        assert lines_of(folder) == lines_of(tmp_path / "whole")
    raise AssertionError("the run never came to its end")
