"""One battery over TRACKERS: the rounds are there while the run grows, what was told is read back, and no connection is opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from server.runs import tracking
from server.runs.tracking import NOTE, TRACKERS, Tracking, tell_final, track
from server.runs.tracking.event_file import FILE, FOLDER
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice
from shared_models.experiment import Data, Experiment

EXPERIMENT = Experiment(name="tracked", data=Data(classes=("a", "b")), model=Choice(name="logistic"))
FINAL = {"rounds": 3, "federated": {"held_out": {"ece": {"value": 0.125, "low": None, "high": 0.25}, "brier": {"value": None}}}}


def line(number: int) -> dict[str, Any]:
    sites = {"st-mary": {"num_cases": 30, "metrics": {"val_loss": 1.0 / number}}, "ünter": {"num_cases": 10, "metrics": {"val_loss": 0.5}}}
    return {"round": number, "wall_s": 2.0, "sites": sites, "missing": ["gone"], "bytes": 100, "norm": 0.5, "bytes_down": None, "total": None}


def events(home: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, dict[int, float]] = {}
    for event in EventFileLoader(str(home / FOLDER / FILE)).Load():
        for value in event.summary.value:
            number = value.tensor.float_val[0] if value.HasField("tensor") else value.simple_value
            found.setdefault(value.tag, {})[event.step] = number
    return found


def database(home: Path) -> dict[str, dict[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{(home / 'mlflow.db').resolve()}")
    (run,) = client.search_runs([client.get_experiment_by_name("tracked").experiment_id])  # a run that goes on is no second one
    assert run.data.params["model"] == "logistic" and run.data.tags["fedild.digest"] == EXPERIMENT.digest
    return {name: {one.step: one.value for one in client.get_metric_history(run.info.run_id, name)} for name in run.data.metrics}


READ = {"none": lambda home: None, "mlflow": database, "tensorboard": events}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow speaks to SQLAlchemy as to its last version
@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_rounds_are_told_as_they_come_and_nothing_calls_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.chdir(tmp_path)
    home, folder = tmp_path / "run", tmp_path / "run" / "federation"
    folder.mkdir(parents=True)
    track(home, name)
    first = Tracking(folder, EXPERIMENT)
    first.round(line(1))
    early = READ[name](home)  # before the run ends
    assert early is None or early["st-mary/val_loss"] == {1: 1.0}
    first.close()
    second = Tracking(folder, EXPERIMENT)  # the run was stopped and goes on
    second.round(line(2))
    second.close()
    tell_final(home, EXPERIMENT, FINAL)
    found = READ[name](home)
    if found is None:
        assert sorted(path.name for path in home.iterdir()) == ["federation", NOTE]
        return
    assert found["mean/val_loss"] == pytest.approx({1: 0.875, 2: 0.5}) and found["round/missing"] == {1: 1.0, 2: 1.0}
    assert found["final/federated/held_out/ece"] == {3: 0.125} and "final/federated/held_out/brier" not in found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]  # nothing lies beside the run
    assert TRACKERS[name].writes and (name != "mlflow" or os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true")


def test_a_tracker_that_fails_stops_no_run_and_an_unknown_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadChoice, match="no such tracker"):
        track(tmp_path, "wandb")
    assert not (tmp_path / NOTE).exists()
    track(tmp_path, "tensorboard")
    (tmp_path / FOLDER).write_text("in the way")
    broken = Tracking(tmp_path, EXPERIMENT)
    broken.round(line(1))
    broken.round(line(2))
    broken.close()
    without = Tracking(tmp_path / "elsewhere" / "deep", EXPERIMENT)
    without.round(line(1))
    assert not (tmp_path / "elsewhere").exists() and tracking.NOTE == "tracking.json"
