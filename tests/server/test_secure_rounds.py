"""The secure sum inside the loop over rounds: what the server writes down, a crash after the sum, and too few sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.errors import Interrupted
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.secure_sum.vector import Part
from tests.server.loop_grid import LoopGrid
from tests.server.secure_sites import NAMES, Ward, experiment_of, weights


def experiment(**federation: Any) -> Experiment:
    document = experiment_of(Choice(name="fedavg"), ahead=2).model_dump()
    changed = {"data": {**document["data"], "kind": "patches"}, "federation": {**document["federation"], **federation}}
    return Experiment.model_validate({**document, **changed})


def grid_of(folder: Path, whole: Experiment) -> LoopGrid:
    def handler(name: str) -> Any:
        ward = Ward(folder, name, lambda job: Part(weights(name, job.state, 0.01), 20, {"val_loss": (5, 0.25)}), whole)
        return lambda job: Update(run=job.run, round=job.round, site=name) if job.kind == "hello" else ward.handle(job)

    return LoopGrid({name: handler(name) for name in NAMES[:4]})


def test_what_is_written_down(tmp_path: Path) -> None:
    whole = experiment()
    run_experiment(grid_of(tmp_path / "sites", whole), whole, tmp_path / "run", durable=False)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["total"]["num_cases"] for line in lines] == [80] * 3
    assert all(line["total"]["metrics"] == {"val_loss": 0.25, "val_cases": 20.0} for line in lines)
    assert all(site["num_cases"] == site["norm"] == 0 and site["metrics"] == {} for line in lines for site in line["sites"].values())
    assert read_json(tmp_path / "run" / "site_metrics.json") == {"all sites": {"val_cases": 20.0, "val_loss": 0.25}}
    start, end = (read_state(tmp_path / "run" / f"{name}.safetensors") for name in ("start", "final"))
    expected = {key: value.astype(np.float64) for key, value in start.items()}
    for _ in range(3):
        expected = {key: np.mean([weights(name, {key: value}, 0.01)[key] for name in NAMES[:4]], axis=0) for key, value in expected.items()}
    for key in start:
        np.testing.assert_allclose(end[key], expected[key], atol=1e-5)


def test_a_crash_after_the_sum_does_not_ask_again(tmp_path: Path) -> None:
    whole = experiment()
    grid = grid_of(tmp_path / "sites", whole)

    class Killed(BaseException):
        pass

    def kill(record: Any, at: Any) -> None:
        if record.round == 2:
            raise Killed

    with pytest.raises(Killed):
        run_experiment(grid, whole, tmp_path / "run", on_round=kill)
    asked = len(grid.jobs)
    run_experiment(grid, whole, tmp_path / "run")
    assert not [job for job in grid.jobs[asked:] if job[1] == "train" and job[2] == 2]
    undisturbed = tmp_path / "undisturbed"
    run_experiment(grid_of(undisturbed, whole), whole, undisturbed / "run")
    assert digest(read_state(undisturbed / "run" / "final.safetensors")) == digest(read_state(tmp_path / "run" / "final.safetensors"))
    lines = [[line["total"] for line in read_rounds(folder / "run" / "rounds.jsonl")] for folder in (tmp_path, undisturbed)]
    assert json.dumps(lines[0]) == json.dumps(lines[1])


def test_too_few_sites_release_nothing(tmp_path: Path) -> None:
    whole = experiment(deadline_s=0.5, retries=1)
    grid = grid_of(tmp_path / "sites", whole)
    grid.forged = {name: lambda message: message.content for name in NAMES[:2]}  # they send the server's own message back

    with pytest.raises(Interrupted, match="3 valid updates") as stopped:
        run_experiment(grid, whole, tmp_path / "run", durable=False)
    assert stopped.value.value["refused"]["alpha"] == "E_CONTENT"
    assert not (tmp_path / "run" / "final.safetensors").exists()
    assert "query.unmask" not in {job[1] for job in grid.jobs}


def test_a_site_under_anothers_name_is_not_summed(tmp_path: Path) -> None:
    whole = experiment(retries=0)
    grid = grid_of(tmp_path / "sites", whole)
    true = grid.sites["beta"]

    def claims(job: Job) -> Update:
        update = true(job)
        return update if job.kind != "fit" else Update(**{**vars(update), "site": "alpha"})

    grid.sites["beta"] = claims
    run_experiment(grid, whole, tmp_path / "run", durable=False)
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert {line["sites"]["beta"]["refused"] for line in lines} == {"E_SITE"}
    assert {line["total"]["num_cases"] for line in lines} == {60}
