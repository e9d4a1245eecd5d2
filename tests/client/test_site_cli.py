"""`fedild site ...` word by word, from an empty folder to what left."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from client.cli import app
from client.guards import Guards
from client.site import Site
from client.worker import Worker
from shared_models.core.errors import BadInput, Refused
from shared_models.experiment import Experiment
from shared_models.papers import read_request
from tests.client.papers import write_kit
from tests.client.sites import table_experiment, table_site
from tests.client.test_worker import job_of


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def refused(*arguments: object) -> BaseException:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert isinstance(result.exception, BadInput | Refused)
    return result.exception


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = table_site(tmp_path, "alpha").parent
    run("init", folder, "--name", "alpha")
    return folder


def worker_of(folder: Path) -> Worker:
    site = Site.load(folder / "site.toml")
    return Worker(site, guards=Guards.of(folder, site.workspace))


def toml_of(experiment: Experiment, path: Path) -> Path:
    path.write_text(tomli_w.dumps(json.loads(experiment.to_json())))
    return path


def test_the_whole_way(site: Path, tmp_path: Path) -> None:
    request = read_request(site / "request.json")
    said = run("join", write_kit(tmp_path / "kit.json", request), "--folder", site)
    assert "joined lungs at localhost:9443" in said
    assert "telephone" in said
    experiment = table_experiment()
    job = job_of(experiment)
    assert "nothing waits" in run("approvals", "--folder", site)
    assert "nothing has left" in run("what-left", "--folder", site)
    assert worker_of(site).handle(job).code == "E_NOT_APPROVED"
    assert "waiting" in run("approvals", "--folder", site)
    shown = run("show", experiment.digest[:12], "--folder", site)
    assert Experiment.model_validate(tomllib.loads(shown)).digest == experiment.digest
    assert "approved experiment table" in run("approve", experiment.digest[:12], "--folder", site)
    rows = json.loads(run("approvals", "--folder", site, "--format", "json"))
    assert [(row["decision"], row["name"]) for row in rows] == [("approved", "table")]
    update = worker_of(site).handle(job)
    assert update.code == ""
    left = json.loads(run("what-left", "--folder", site, "--format", "json"))
    assert [(row["run"], row["round"], row["keys"]) for row in left] == [("run", 1, len(update.state))]
    assert left[0]["bytes"] == sum(value.nbytes for value in update.state.values())
    assert left[0]["metrics"] == update.metrics
    assert "run run  round    1" in run("what-left", "--folder", site)
    status = json.loads(run("status", "--folder", site, "--format", "json"))
    assert (status["site"], status["server"], status["up"], status["messages left"]) == ("alpha", "localhost:9443", False, 1)
    assert status["last"].split()[1:4] == ["released", "run", "1"]
    assert run("show", experiment.digest[:12], "--folder", site) == shown, "what was signed can be read afterwards"
    assert "revoked experiment table" in run("reject", "table", "--folder", site)
    assert worker_of(site).handle(replace(job, round=2)).code == "E_NOT_APPROVED"
    assert "lines, all whole" in run("audit", "verify", "--folder", site)
    assert "alpha" in run("status", "--folder", site)


def test_approving_a_file_before_it_is_asked_for(site: Path, tmp_path: Path) -> None:
    experiment = table_experiment()
    run("approve", toml_of(experiment, tmp_path / "table.toml"), "--folder", site)
    assert worker_of(site).handle(job_of(experiment)).code == ""
    (tmp_path / "shop.tool.1-0.0123abcd.fab").write_bytes(b"zip")
    assert "read the file it was approved from" in str(refused("show", experiment.digest[:12], "--folder", site))
    assert "approved app shop.tool" in run("approve", tmp_path / "shop.tool.1-0.0123abcd.fab", "--folder", site)
    assert "rejected" in run("reject", toml_of(table_experiment(rounds=9), tmp_path / "other.toml"), "--folder", site)


def test_doctor(site: Path) -> None:
    assert "FAULT" in run("doctor", "--folder", site, code=1)
    rows = json.loads(run("doctor", "--folder", site, "--format", "json", code=1))
    assert {row["check"] for row in rows if row["grade"] == "fault"} == {"server"}
    assert all(row["remedy"] for row in rows if row["grade"] != "good")


def test_tampering_is_named(site: Path) -> None:
    run("audit", "verify", "--folder", site)
    (site / "audit.jsonl").write_text("")
    assert getattr(refused("audit", "verify", "--folder", site), "code", "") == "E_AUDIT"


def test_a_rolled_back_list_of_approvals_is_found_by_the_audit(site: Path, tmp_path: Path) -> None:
    files = [site / "approvals.jsonl", site / "secrets" / "approvals.last"]
    toml = toml_of(table_experiment(), tmp_path / "table.toml")
    run("approve", toml, "--folder", site)
    older = [path.read_bytes() for path in files]
    run("reject", toml, "--folder", site)
    for path, content in zip(files, older, strict=True):
        path.write_bytes(content)
    assert getattr(refused("audit", "verify", "--folder", site), "code", "") == "E_APPROVALS"


@pytest.mark.parametrize(
    "arguments",
    [("init", "{site}", "--name", "alpha"), ("init", "{site}/new", "--name", "no name"), ("join", "none.json"), ("approve", "nothing"), ("up",)],
)
def test_what_is_refused(arguments: tuple[str, ...], site: Path) -> None:
    folder = () if arguments[0] == "init" else ("--folder", site)
    refused(*(argument.format(site=site) for argument in arguments), *folder)


def test_log_shows_the_end(site: Path) -> None:
    (site / "logs").mkdir()
    (site / "logs" / "worker.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert run("log", "--folder", site, "--lines", "2").splitlines() == ["--- worker", "line 98", "line 99"]


def test_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    run("init", folder, "--name", "alpha")
    (folder / "dicom").mkdir()
    (folder / "dicom" / "notes.txt").write_text("no DICOM")
    seen: dict[str, Any] = {}
    from client import prepare

    whole = prepare.prepare_folder

    def looking(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs, preparation=args[2])
        return whole(*args, **kwargs)

    monkeypatch.setattr(prepare, "prepare_folder", looking)
    experiment = table_experiment()
    experiment = experiment.model_copy(update={"preparation": experiment.preparation.model_copy(update={"grid_mm": (5.0, 2.0, 2.0)})})
    said = run("prepare", "--folder", folder, "--experiment", toml_of(experiment, tmp_path / "e.toml"), "--processes", 1).splitlines()
    assert said[1].split()[:4] == ["skipped", "1", "items", "1"] and "NOT_DICOM" in said[1] and said[-1].endswith("report.json")
    assert seen["preparation"].grid_mm == (5.0, 2.0, 2.0)
    assert json.loads((folder / "workspace" / "report.json").read_text())
    assert '"event":"prepared"' in (folder / "audit.jsonl").read_text()
