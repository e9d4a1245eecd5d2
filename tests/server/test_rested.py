"""What rests in a phase travels to each site once: the same bits as if all had travelled, and again to whoever has lost it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs import exchange
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.state import digest, size_bytes
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from tests.server.loop_grid import LoopGrid
from tests.server.phase_sites import experiment_of, grid_of

STAGES = [{"rounds": 1}, {"rounds": 3, "train_only": ["0.bias"], "train": {"optimiser": {"name": "sgd", "lr": 0.05}}}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def staged(**federation: Any) -> Experiment:
    return experiment_of(Choice(name="scaler"), stages=STAGES, federation={"quorum": 2, "deadline_s": 60.0, **federation})


def watched(grid: LoopGrid, before: Callable[[str, Job], None] | None = None) -> dict[str, list[Job]]:
    """Note the jobs of training that each site gets; `before` looks at each first."""
    seen: dict[str, list[Job]] = {name: [] for name in grid.sites}

    def noting(name: str, handle: Callable[[Job], Update]) -> Callable[[Job], Update]:
        def noted(job: Job) -> Update:
            if job.kind == "fit":
                seen[name].append(job)
                if before is not None:
                    before(name, job)
            return handle(job)

        return noted

    grid.sites.update({name: noting(name, handle) for name, handle in grid.sites.items()})
    return seen


def test_what_rests_travels_once_and_the_run_has_the_same_bits(tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "sites")
    seen = watched(grid)
    final = run_experiment(grid, staged(), tmp_path / "run", durable=False)
    whole, thin = size_bytes(final.state), final.state["0.bias"].nbytes
    for jobs in seen.values():
        assert [size_bytes(job.state) for job in jobs] == [*[whole] * 4, thin, thin]  # two rounds of the scaler, one of all, three of the bias
        assert [bool(job.rests) for job in jobs] == [False] * 4 + [True] * 2
    assert [line["bytes_down"] for line in read_rounds(tmp_path / "run" / "rounds.jsonl")] == [3 * whole] * 4 + [3 * thin] * 2
    secure = run_experiment(grid_of(tmp_path / "again"), staged(quorum=3, secure_sum=True), tmp_path / "secure", durable=False)
    np.testing.assert_allclose(secure.state["0.bias"], final.state["0.bias"], atol=1e-4)  # there all arrays travel every time
    kept = list((tmp_path / "sites" / "alpha" / "workspace" / "rested").iterdir())
    assert [file.stat().st_mode & 0o777 for file in kept] == [0o600]


def test_a_site_that_lost_it_gets_it_again(tmp_path: Path) -> None:
    plain = run_experiment(grid_of(tmp_path / "plain"), staged(), tmp_path / "a", durable=False)
    grid = grid_of(tmp_path / "sites")

    def lose(name: str, job: Job) -> None:
        if name == "beta" and job.round == 5 and job.rests:
            shutil.rmtree(tmp_path / "sites" / "beta" / "workspace" / "rested")

    seen = watched(grid, lose)
    final = run_experiment(grid, staged(quorum=3), tmp_path / "run", durable=False)
    assert digest(final.state) == digest(plain.state)
    assert [(job.round, bool(job.rests)) for job in seen["beta"]][-4:] == [(4, False), (5, True), (5, False), (6, True)]
    assert not any(record["refused"] for line in read_rounds(tmp_path / "run" / "rounds.jsonl") for record in line["sites"].values())


def test_a_damaged_file_is_not_taken(tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "sites")

    def damage(name: str, job: Job) -> None:
        if name == "gamma" and job.rests:
            for path in (tmp_path / "sites" / "gamma" / "workspace" / "rested").iterdir():
                path.write_bytes(path.read_bytes()[:-1] + b"\x7f")

    watched(grid, damage)
    run_experiment(grid, staged(), tmp_path / "run", durable=False)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["sites"]["gamma"]["refused"] for line in lines[-2:]] == ["E_RESTS", None]
