"""Rounds whose updates travel packed: the server unpacks before it checks, sums and spools, and refuses what is not packed as agreed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs import exchange
from server.runs.log import read_rounds
from server.runs.rounds import RoundRecord
from shared_models.compression import compress, compression_of
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.experiment import Data, Experiment, Federation, Train
from shared_models.messages import Job, Update
from tests.server.loop_grid import Handle, LoopGrid

CHOICES = [{"name": "none"}, {"name": "fp16"}, {"name": "int8"}, {"name": "top_k", "keep": 0.25}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def experiment_of(choice: dict[str, Any], **federation: Any) -> Experiment:
    return Experiment(
        name="packed",
        data=Data(classes=("a", "b")),
        model=Choice.model_validate({"name": "mil_cnn", "widths": [4, 4], "features": 8, "dropout": 0.0}),
        train=Train(schedule="constant"),
        strategy=Choice(name="fedavg"),
        federation=Federation.model_validate({"rounds": 6, "quorum": 3, "deadline_s": 5.0, "compression": choice, **federation}),
    )


def site(name: str, goal: float, choice: dict[str, Any], *, forge: Any = None) -> Handle:
    """A site that steps half of the way to its goal, packed with error feedback as a worker does it."""
    left: State = {}

    def handle(job: Job) -> Update:
        if job.kind != "fit":
            return Update(run=job.run, round=job.round, site=name)
        state = {key: (value + 0.5 * (np.float32(goal) - value)).astype(value.dtype) for key, value in job.state.items()}
        packing = compression_of(Choice.model_validate(choice))
        if packing is not None:
            state, rest = compress(state, job.state, left, packing)
            left.update(rest)
        return Update(run=job.run, round=job.round, site=name, state=forge(state) if forge else state, num_cases=10, steps=1)

    return handle


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice["name"])
def test_the_model_arrives_where_the_sites_pull_it(tmp_path: Path, choice: dict[str, Any]) -> None:
    records: list[RoundRecord] = []
    grid = LoopGrid({name: site(name, goal, choice) for name, goal in (("alpha", 1.0), ("beta", 2.0), ("gamma", 3.0))})
    final = run_experiment(grid, experiment_of(choice), tmp_path, durable=False, on_round=lambda record, at: records.append(record))
    distance = max(float(np.abs(value - 2.0).max()) for value in final.state.values())
    assert distance < (1.6 if choice["name"] == "top_k" else 0.1)
    whole = sum(value.nbytes for value in final.state.values())
    share = records[0].bytes / (3 * whole)
    assert share == pytest.approx({"none": 1.0, "fp16": 0.5, "int8": 0.26, "top_k": 0.5}[choice["name"]], abs=0.06)
    assert records[0].norm > 0


def _nan(packed: State) -> State:
    key = next(key for key in packed if key.startswith("scale/"))
    return {**packed, key: np.full_like(packed[key], np.nan)}


def _huge(packed: State) -> State:
    return {key: np.full_like(value, 1e30) if key.startswith("scale/") else value for key, value in packed.items()}


@pytest.mark.parametrize(
    ("code", "forge"),
    [
        ("E_LAYOUT", lambda packed: {}),
        ("E_LAYOUT", lambda packed: {f"whole/{key}": value for key, value in packed.items()}),
        ("E_LAYOUT", lambda packed: {key: value[:-1] for key, value in packed.items()}),
        ("E_VALUES", _nan),
        ("E_NORM", _huge),
    ],
)
def test_a_forged_packing_costs_only_its_own_site(tmp_path: Path, code: str, forge: Any) -> None:
    choice = {"name": "int8"}
    honest = {name: site(name, goal, choice) for name, goal in (("alpha", 1.0), ("beta", 2.0), ("gamma", 3.0))}
    final = run_experiment(LoopGrid({**honest, "evil": site("evil", 9.0, choice, forge=forge)}), experiment_of(choice), tmp_path, durable=False)
    assert {line["sites"]["evil"]["refused"] for line in read_rounds(tmp_path / "rounds.jsonl")} == {code}
    assert all(np.isfinite(value).all() and np.abs(value).max() < 4 for value in final.state.values())
