"""The round journal: a process killed by a real SIGKILL at any write continues to the same bits and asks only the missing sites again."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs import exchange
from server.runs.checkpoint import load_latest
from server.runs.journal import sweep, take_up, write_note
from server.runs.log import read_rounds
from server.runs.start import write_start
from server.strategies.replies import Spool
from shared_models.core.choices import Choice
from shared_models.core.files import read_json, read_state, write_json
from shared_models.core.state import digest
from shared_models.experiment import Data, Experiment, Federation, Train
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid

SITES = ("alpha", "beta", "delta", "gamma")
EXPERIMENT = Experiment(
    name="loop",
    data=Data(classes=("a", "b")),
    model=Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8, "dropout": 0.0}),
    train=Train(schedule="constant"),
    strategy=Choice(name="fedadam"),
    federation=Federation(rounds=3, quorum=3, deadline_s=20.0),
)
ASKED = {"run": "r", "round": 3, "model": "m"}


def site(name: str, cases: int, asked: Path) -> Handle:
    """A site whose update depends on what it received and on nothing else; each question it answers is noted."""

    def handle(job: Job) -> Update:
        if job.kind != "fit":
            return Update(run=job.run, round=job.round, site=name)
        with open(asked, "a") as file:
            file.write(json.dumps([job.round, name]) + "\n")
        rng = np.random.default_rng([job.round, *name.encode()])
        state = {k: (v + rng.normal(0, 0.1, v.shape)).astype(v.dtype) for k, v in job.state.items()}
        return Update(run=job.run, round=job.round, site=name, state=state, num_cases=cases, steps=1, metrics={"val_loss": 0.25})

    return handle


def _run(folder: Path, asked: Path, kill_at: int | None) -> None:
    """The server app of one attempt; with `kill_at` it gets a SIGKILL at that rename: odd ones just before it, even ones just after."""
    exchange.POLL_S = (0.0, 0.0)
    replace, count = Path.replace, 0

    def counted(self: Path, target: Any) -> Path:
        nonlocal count
        count += 1
        if count == kill_at and count % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        done = replace(self, target)
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Path.replace = counted  # type: ignore[method-assign]
    grid = LoopGrid({name: site(name, 10 + number, asked) for number, name in enumerate(SITES)})
    run_experiment(grid, EXPERIMENT, folder, durable=True)
    (folder / "renames").write_text(str(count))


def attempt(folder: Path, kill_at: int | None = None) -> tuple[int | None, list[tuple[int, str]]]:
    """Run in a process of its own; return its exit code and what it asked of whom."""
    asked = folder.parent / f"{folder.name}-asked-{time.monotonic_ns()}"
    process = multiprocessing.get_context("fork").Process(target=_run, args=(folder, asked, kill_at))
    process.start()
    process.join(60)
    lines = asked.read_text().splitlines() if asked.exists() else []
    return process.exitcode, [(number, name) for number, name in map(json.loads, lines)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    folder.mkdir()
    write_start(EXPERIMENT, folder)
    code, asked = attempt(folder)
    assert code == 0
    assert len(asked) == 12
    return folder


def begun(tmp_path: Path, undisturbed: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("start.json", "start.safetensors"):
        (folder / name).write_bytes((undisturbed / name).read_bytes())
    return folder


def whole(folder: Path, undisturbed: Path) -> None:
    assert (folder / "final.safetensors").read_bytes() == (undisturbed / "final.safetensors").read_bytes()
    ended = [load_latest(where / "checkpoints", experiment=EXPERIMENT.digest) for where in (folder, undisturbed)]
    assert ended[0] is not None and ended[1] is not None
    assert digest(ended[0].own) == digest(ended[1].own)
    assert ended[0].roster == SITES
    lines = [read_rounds(where / "rounds.jsonl") for where in (folder, undisturbed)]
    for line in lines[0] + lines[1]:
        line.pop("wall_s")
    assert lines[0] == lines[1]
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]
    assert not any((folder / "spool").iterdir())


def test_replies_that_were_received_are_not_asked_for_again(tmp_path: Path, undisturbed: Path) -> None:
    folder = begun(tmp_path, undisturbed)
    # Renames of round 1: the log, then two a reply (update, note). The sixth is the second of the third site to answer, just gone through.
    code, asked = attempt(folder, kill_at=1 + 2 * 2 + 1)
    assert code == -signal.SIGKILL
    assert [number for number, _ in asked] == [1] * 4
    taken = {path.stem for path in (folder / "spool" / "round-000001").glob("*.json")}
    assert len(taken) == 2
    code, asked = attempt(folder)
    assert code == 0
    assert {name for number, name in asked if number == 1} == set(SITES) - taken
    assert sorted(asked)[2:] == [(number, name) for number in (2, 3) for name in SITES]
    whole(folder, undisturbed)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_writes_again_and_again(tmp_path: Path, undisturbed: Path, seed: int) -> None:
    folder, dealer = begun(tmp_path, undisturbed), random.Random(seed)
    every = int((undisturbed / "renames").read_text())
    questions: list[tuple[int, str]] = []
    for _ in range(3):
        code, asked = attempt(folder, kill_at=dealer.randint(2, every // 2))
        questions += asked
        assert code == -signal.SIGKILL or code == 0
    code, asked = attempt(folder)
    assert code == 0
    whole(folder, undisturbed)
    assert set(questions + asked) == {(number, name) for number in (1, 2, 3) for name in SITES}


def test_killed_between_checkpoint_and_the_next_round(tmp_path: Path, undisturbed: Path) -> None:
    folder = begun(tmp_path, undisturbed)
    renames = 1 + 8 + 3  # the log, four replies, the checkpoint: the twelfth is its manifest, just gone through
    assert attempt(folder, kill_at=renames)[0] == -signal.SIGKILL
    assert any((folder / "spool").iterdir())  # not yet cleared
    code, asked = attempt(folder)
    assert code == 0
    assert {number for number, _ in asked} == {2, 3}
    whole(folder, undisturbed)


def spooled(folder: Path) -> Spool:
    spool = Spool(folder, durable=True)
    for number, name in enumerate(("alpha", "beta"), 1):
        spool.add(name, {"w": np.full(5, float(number))}, num_cases=10 * number, steps=number)
        write_note(spool, name, {"num_cases": 10 * number, "steps": number, "bytes": 40}, asked=ASKED)
    return spool


def test_whole_replies_come_back(tmp_path: Path) -> None:
    before = spooled(tmp_path / "s")
    after = Spool(tmp_path / "s", durable=True)
    assert take_up(after, asked=ASKED) == {
        "alpha": {"num_cases": 10, "steps": 1, "bytes": 40},
        "beta": {"num_cases": 20, "steps": 2, "bytes": 40},
    }
    assert after.replies == before.replies
    mean = after.weighted_mean({"w": np.zeros(5)}, [reply.num_cases for reply in after.replies])
    assert mean["w"][0] == pytest.approx(50 / 30)


def _flip(folder: Path) -> None:
    data = bytearray((folder / "beta.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "beta.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda folder: (folder / "beta.safetensors").unlink(),
        lambda folder: (folder / "beta.json").unlink(),
        lambda folder: (folder / "beta.json").write_text('{"asked":'),
        lambda folder: (folder / "beta.json").write_text("[]"),
        lambda folder: write_json(folder / "beta.json", read_json(folder / "beta.json") | {"asked": ASKED | {"round": 2}}),
        lambda folder: write_json(folder / "beta.json", read_json(folder / "beta.json") | {"asked": ASKED | {"model": "other"}}),
        lambda folder: write_json(folder / "beta.json", read_json(folder / "beta.json") | {"record": {"num_cases": 3}}),
    ],
)
def test_what_is_not_whole_or_answers_another_question_is_removed(tmp_path: Path, damage: Any) -> None:
    spooled(tmp_path / "s")
    damage(tmp_path / "s")
    after = Spool(tmp_path / "s", durable=True)
    assert list(take_up(after, asked=ASKED)) == ["alpha"]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["alpha.json", "alpha.safetensors"]
    after.add("beta", {"w": np.ones(5)}, num_cases=1, steps=1)  # asked again, its place is free


def test_another_run_takes_nothing_up(tmp_path: Path) -> None:
    spooled(tmp_path / "s")
    assert take_up(Spool(tmp_path / "s"), asked=ASKED | {"run": "other"}) == {}
    assert not any((tmp_path / "s").iterdir())
    assert take_up(Spool(tmp_path / "none"), asked=ASKED) == {}


def test_sweep_leaves_only_what_counts(tmp_path: Path) -> None:
    spooled(tmp_path / "spool" / "round-000003")
    spooled(tmp_path / "spool" / "round-000002")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".state.safetensors.abc.part").write_bytes(b"half")
    (tmp_path / "rounds.jsonl").write_text("")
    sweep(tmp_path, next_round=3)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["rounds.jsonl", *(f"spool/round-000003/{name}" for name in ("alpha.json", "alpha.safetensors", "beta.json", "beta.safetensors"))]
    assert read_state(tmp_path / "spool" / "round-000003" / "alpha.safetensors")["w"][0] == 1
