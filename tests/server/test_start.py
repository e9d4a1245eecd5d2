"""Round 0 of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from server.runs.start import begin
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.state import digest
from tests.client.sites import patch_experiment, table_experiment


def test_another_process_builds_the_same_state(tmp_path: Path) -> None:
    experiment = patch_experiment()
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, there = begin(experiment, tmp_path / "here"), begin(experiment, tmp_path / "there", run="there")
    assert digest(here.state) == digest(there.state)
    assert there.run == "there" != here.run
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["start.json", "start.safetensors"]
    assert begin(experiment, tmp_path / "there", run="there").run == "there"


def test_a_folder_belongs_to_one_experiment(tmp_path: Path) -> None:
    begin(table_experiment(), tmp_path)
    with pytest.raises(BadInput, match="one experiment"):
        begin(table_experiment(rounds=9), tmp_path)


def test_a_state_that_cannot_be_built_leaves_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FedILDError, match="initial model"):
        begin(table_experiment(), tmp_path, run="r1")
    assert (tmp_path / "start.log").exists()
