"""Statistics before training and training in stages: on the rails of any other round, and equal to the pooled fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.app import run_experiment
from server.runs import exchange
from server.runs.checkpoint import RoundState
from server.runs.log import read_rounds
from shared_models.core.choices import Choice
from shared_models.core.files import read_json, read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.harmonisation.combat import contribution, finish, harmonised, site_effect
from shared_models.messages import Update
from shared_models.phases import fit_of, rounds_of, trained
from tests.server.loop_grid import LoopGrid
from tests.server.phase_sites import SIZES, experiment_of, grid_of, knobs, training

ALL = (knobs("combat", covariates=("age",)), Choice(name="scaler"), knobs("pca", components=3))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "POLL_S", (0.001, 0.005))


def pooled(names: tuple[str, ...] = tuple(sorted(SIZES))) -> dict[str, np.ndarray]:
    """All three statistics over the patients in one place."""
    tables = [training(name) for name in names]
    fit = finish([contribution(table[:, :4], table[:, 4:]) for table in tables])
    changed = [
        np.column_stack([harmonised(fit, site_effect(fit, table[:, :4], table[:, 4:]), table[:, :4], table[:, 4:]), table[:, 4:]]) for table in tables
    ]
    whole = np.concatenate(changed)
    scaled = (whole - whole.mean(0)) / whole.std(0)
    _, singular, axes = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
    return {
        "mean": whole.mean(0),
        "scale": whole.std(0),
        "axes": axes[:3],
        "variance": singular[:3] ** 2 / len(whole),
        "combat": fit.mean,
        "slope": fit.slope,
        "deviation": fit.deviation,
    }


def assert_pooled(state: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    combat, scaler, pca = (fit_of(state, name) for name in ("combat", "scaler", "pca"))
    for found, name in ((combat["mean"], "combat"), (combat["slope"], "slope"), (combat["deviation"], "deviation")):
        np.testing.assert_allclose(found, expected[name], rtol=1e-8)
    np.testing.assert_allclose(scaler["mean"], expected["mean"], rtol=1e-8)
    np.testing.assert_allclose(scaler["scale"], expected["scale"], rtol=1e-8)
    np.testing.assert_allclose(pca["variance"], expected["variance"], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(pca["axes"] * expected["axes"], 1)), 1.0, atol=1e-12)


@pytest.mark.parametrize("secure", [False, True])
def test_statistics_of_a_run_equal_the_pooled_fit(secure: bool, tmp_path: Path) -> None:
    federation = {"rounds": 2, "quorum": 3, "deadline_s": 60.0, "secure_sum": {"largest_change": 8.0} if secure else None}
    experiment = experiment_of(*ALL, federation=federation)
    final = run_experiment(grid_of(tmp_path / "sites"), experiment, tmp_path / "run", durable=False)
    assert_pooled(final.state, pooled())
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert [line["phase"] for line in lines] == ["combat", "scaler", "scaler", "pca", "pca", "training", "training"]
    assert trained(final.state)["0.weight"].shape == (1, 3)  # the network reads components
    assert digest(trained(final.state)) != digest(trained(read_state(tmp_path / "run" / "start.safetensors")))
    judged = read_json(tmp_path / "run" / "site_metrics.json")
    assert set(judged) == ({"all sites"} if secure else set(SIZES))
    assert "val_loss" in judged["all sites" if secure else "beta"]
    assert secure or "val_loss" not in lines[0]["sites"]["beta"]["metrics"]


def test_an_exact_model_reads_what_the_statistics_leave(tmp_path: Path) -> None:
    settings = {"model": {"name": "logistic"}, "federation": {"rounds": 8, "quorum": 3, "deadline_s": 60.0}}
    plain = run_experiment(grid_of(tmp_path / "a"), experiment_of(**settings), tmp_path / "plain", durable=False)
    scaled = run_experiment(grid_of(tmp_path / "b"), experiment_of(Choice(name="scaler"), **settings), tmp_path / "scaled", durable=False)
    # Logistic regression scales its columns itself: the coefficients on scaled columns are those on raw ones.
    np.testing.assert_allclose(trained(scaled.state)["coefficients"], plain.state["coefficients"], rtol=1e-6)
    np.testing.assert_allclose(fit_of(scaled.state, "scaler")["mean"], plain.state["mean"], rtol=1e-8)


STAGED: dict[str, Any] = {
    "stages": [
        {"rounds": 2, "strategy": {"name": "fedadam"}},
        {"rounds": 1, "train_only": ["0.bias"], "train": {"epochs": 2, "optimiser": {"name": "adamw", "lr": 0.05, "weight_decay": 0.5}}},
    ],
}


class Killed(BaseException):
    """A ``kill -9`` between two rounds."""


def killed_after(experiment: Experiment, grid: LoopGrid, folder: Path, number: int) -> RoundState:
    """Run, die before the checkpoint of a round is written, and go on."""

    def kill(record: Any, at: Any) -> None:
        if record.round == number:
            raise Killed

    with pytest.raises(Killed):
        run_experiment(grid, experiment, folder, on_round=kill)
    return run_experiment(grid, experiment, folder)


@pytest.mark.parametrize("number", [1, 3, 4, 6])
def test_a_killed_run_goes_on_to_the_same_bits(number: int, tmp_path: Path) -> None:
    experiment = experiment_of(ALL[0], ALL[1], federation={"quorum": 2, "deadline_s": 60.0}, **STAGED)
    assert rounds_of(experiment) == 6
    whole = run_experiment(grid_of(tmp_path / "a"), experiment, tmp_path / "whole", durable=False)
    resumed = killed_after(experiment, grid_of(tmp_path / "b"), tmp_path / "killed", number)
    assert digest(resumed.state) == digest(whole.state)
    assert digest(resumed.own) == digest(whole.own)
    assert [line["round"] for line in read_rounds(tmp_path / "killed" / "rounds.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("absent", [1, 2])
def test_a_fit_is_of_the_sites_that_were_there(absent: int, tmp_path: Path) -> None:
    grid = grid_of(tmp_path / "sites")
    true = grid.sites["beta"]
    grid.sites["beta"] = lambda job: Update(run=job.run, round=job.round, site="beta", code="E_MEMORY") if job.round == absent else true(job)
    experiment = experiment_of(Choice(name="scaler"), federation={"rounds": 1, "quorum": 2, "deadline_s": 60.0})
    final = run_experiment(grid, experiment, tmp_path / "run", durable=False)
    there = np.concatenate([training(name) for name in sorted(SIZES) if absent == 1 or name != "beta"])
    np.testing.assert_allclose(fit_of(final.state, "scaler")["mean"], there.mean(0), rtol=1e-8)
    np.testing.assert_allclose(fit_of(final.state, "scaler")["scale"], there.std(0), rtol=1e-8)
    assert [line["missing"] for line in read_rounds(tmp_path / "run" / "rounds.jsonl")][absent - 1] == ["beta"]


@pytest.mark.parametrize("way", ["plain", "packed", "summed"])
def test_a_stage_trains_and_sends_what_it_names_alone(way: str, tmp_path: Path) -> None:
    seen: list[dict[str, np.ndarray]] = []
    federation = {"plain": {}, "packed": {"compression": {"name": "top_k", "keep": 0.5}}, "summed": {"secure_sum": True}}[way]
    stages = [*STAGED["stages"], {"rounds": 1}] if way == "packed" else STAGED["stages"]  # what is owed of one stage is not of another
    experiment = experiment_of(Choice(name="scaler"), federation={"quorum": 3, "deadline_s": 60.0, **federation}, stages=stages)
    run_experiment(grid_of(tmp_path / "sites"), experiment, tmp_path / "run", durable=False, on_round=lambda record, at: seen.append(dict(at.state)))
    before, after = trained(seen[3]), trained(seen[4])
    assert before["0.weight"].tobytes() == after["0.weight"].tobytes()  # neither weight decay nor momentum moved it
    assert before["0.bias"] != after["0.bias"]
    lines = read_rounds(tmp_path / "run" / "rounds.jsonl")
    assert not any(record["refused"] for line in lines for record in line["sites"].values())
    if way == "plain":
        assert [line["sites"]["alpha"]["bytes"] for line in lines[2:]] == [24, 24, 4]
        assert [line["sites"]["alpha"]["steps"] for line in lines] == [1, 1, 3, 3, 6]


def test_a_personal_part_in_the_last_stage(tmp_path: Path) -> None:
    stages = [{"rounds": 1, "strategy": {"name": "scaffold"}}, {"rounds": 2, "strategy": {"name": "fedprox", "mu": 0.1}}]
    personal = [{"rounds": 1}, {"rounds": 2, "strategy": {"name": "fedper", "personal": ["0.bias"]}}]
    for number, chosen in enumerate((stages, personal)):
        experiment = experiment_of(Choice(name="scaler"), federation={"quorum": 3, "deadline_s": 60.0}, stages=chosen)
        run_experiment(grid_of(tmp_path / f"sites{number}"), experiment, tmp_path / f"run{number}", durable=False)
        lines = read_rounds(tmp_path / f"run{number}" / "rounds.jsonl")
        assert not any(record["refused"] for line in lines for record in line["sites"].values())
        assert [line["phase"] for line in lines] == ["scaler", "scaler", "stage 1", "stage 2", "stage 2"]


def test_an_experiment_without_phases_is_as_before() -> None:
    plain = experiment_of()
    assert "stages" not in plain.to_json() and "statistics" not in plain.to_json()
    assert rounds_of(plain) == 2
