"""The command: exit codes, and words on the right stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sim.check
from server.folder import init_folder
from shared_models.core.errors import BadInput, FedILDError, Interrupted
from sim.cli import INTERRUPTED, main
from sim.experiments import path_of
from sim.tables import TABLES
from tests.client.sites import table_site


def fedild(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedild", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_check_of_a_sound_experiment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedild(monkeypatch, "check", "fibrosis") == 0
    assert capsys.readouterr().out.startswith("fibrosis: sound; digest ")


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("model.name=mil_cn", "did you mean 'mil_cnn'"),
        ("strategy.name=exact_sum", "strategy: 'exact_sum' does not serve a model fitted by gradient"),
        ("train.optimiser.name=adamx", "train.optimiser"),
        ("preparation.segmenter.name=guess", "preparation.segmenter"),
        ("evaluation.headline=luck", "evaluation.headline: no metric 'luck'"),
        ("federation.compression.name=zip", "federation.compression"),
        ("train.epochs=0", "train.epochs: input should be greater than or equal to 1"),
    ],
)
def test_a_server_orders_no_run_that_check_would_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str, fault: str
) -> None:
    server = init_folder(tmp_path / "server", name="c", address="a.example:1")
    toml = str(path_of("fibrosis"))
    assert fedild(monkeypatch, "check", toml, "--set", setting) == 2
    assert fault in capsys.readouterr().err
    assert fedild(monkeypatch, "server", "run", toml, "--sites", "a,b,c", "--set", setting, "--folder", str(server.path)) == 2
    assert fault in capsys.readouterr().err
    assert not any(server.runs.iterdir())


def test_check_says_whether_a_site_would_accept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    willing, strict = table_site(tmp_path, "willing"), table_site(tmp_path, "strict", toml='[policy]\nmodels = ["forest"]\n')
    assert fedild(monkeypatch, "check", "fibrosis", str(willing)) == 0
    assert "willing would accept it" in capsys.readouterr().out
    assert fedild(monkeypatch, "check", "fibrosis", str(strict)) == 2
    assert "E_POLICY_MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "fibrosis", "--set", "train.epochs=0"], "train.epochs: input should be greater than or equal to 1; found 0"),
        (["check", "fibrosis", "--set", "model.name=mil_cn"], "did you mean 'mil_cnn'"),
        (["check", "fibrosi"], "did you mean 'fibrosis'"),
        (["check", "nowhere.toml"], "must exist"),
        (["check", "fibrosis", "nowhere.toml"], "must exist"),
        (["list", "modells"], "did you mean 'models'"),
        (["check"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["check", "fibrosis", "--nonsense"], "No such option"),
    ],
)
def test_bad_input_ends_with_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert fedild(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert words in " ".join(shown.err.split())
    assert shown.out == ""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Interrupted("x"), 1, "error E_INTERRUPTED: x"),
        (FedILDError("x"), 1, "error E_FAILED: x"),
        (BadInput("x", code="E_KEY_FILE"), 2, "error E_KEY_FILE: x"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted; continue with --resume"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: str
) -> None:
    def failing(*args: object) -> str:
        raise error

    monkeypatch.setattr(sim.check, "check", failing)
    assert fedild(monkeypatch, "check", "fibrosis") == code
    assert capsys.readouterr().err.strip() == told


@pytest.mark.parametrize("table", TABLES)
def test_lists_show_every_entry(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert fedild(monkeypatch, "list", table) == 0
    shown = capsys.readouterr().out
    for name in TABLES[table]():
        assert name in shown


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedild(monkeypatch, "version") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fedild ")
    assert len(lines) == 8


def test_the_installed_command_outside_the_checkout(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("fedild")
    done = subprocess.run(
        [command, "check", "fibrosis"], cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONWARNINGS": "default"}
    )
    assert done.returncode == 0
    assert done.stdout.startswith("fibrosis: sound")
    help_ = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert help_.returncode == 0
    assert "Research use only" in " ".join(help_.stdout.split())


def test_no_phantom_command_without_a_free_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.json").write_text(json.dumps({"a": 1}))
    assert fedild(monkeypatch, "simulate", "fibrosis", "--out", str(tmp_path / "run"), "--quiet") == 2
    assert "new or empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious.json"]
