"""Checklists say what a run knows, and of everything else that it is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.reports.checklists import CLAIM, TRIPOD, UNKNOWN, Facts, filled, write_checklists
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from sim.cli import app

EXPERIMENT = '{"name":"tiny","data":{"classes":["normal","UIP"]},"model":{"name":"mil_cnn"}}'


def _run(folder: Path, kind: str) -> Path:
    (folder / "experiment.json").write_text(Experiment.from_json(EXPERIMENT).to_json())
    cell = {"value": 0.91, "low": 0.8, "high": 0.97, "n": 40}
    write_json(folder / "metrics.json", {"headline": "auroc_macro", "data": {"kind": kind}, "federated": {"held_out": {"auroc_macro": cell}}})
    write_json(
        folder / "run.json", {"sites": [{"name": "st<b>mary", "cases": 31, "role": "trains"}], "versions": {"fedild": "0.1.0"}, "bundle": "ab" * 32}
    )
    return folder


def test_an_empty_run_answers_nothing_that_it_does_not_know() -> None:
    facts = Facts(Experiment.from_json(EXPERIMENT), {}, {}, {}, {}, {})
    for items in (TRIPOD, CLAIM):
        rows = {row["item"]: row["answer"] for row in filled(items, facts)}
        assert len(rows) == len(items)  # no number twice
        assert {rows[item] for item in (("23a", "18a", "17", "6b", "14") if items is TRIPOD else ("37", "44", "13", "8"))} == {UNKNOWN}


def test_what_the_run_knows_stands_in_both_lists_and_on_the_page(tmp_path: Path) -> None:
    page = write_checklists(_run(tmp_path, "phantom")).read_text()
    found = read_json(tmp_path / "checklists.json")
    tripod, claim = ({row["item"]: row["answer"] for row in rows} for rows in found["lists"].values())
    assert "0.910 (95 % interval 0.800 to 0.970), n = 40" in tripod["23a"] == claim["38"]
    assert tripod["17"] == "not applicable: no patient" and tripod["18a"] == UNKNOWN
    assert "says nothing about patients" in page and "st&lt;b&gt;mary" in page
    assert found["sheets"]["st<b>mary"]["how labels were made"] == "planted by the program"


def test_with_real_patients_ethics_and_consent_are_for_the_authors(tmp_path: Path) -> None:
    page = write_checklists(_run(tmp_path, "real")).read_text()
    found = read_json(tmp_path / "checklists.json")
    tripod = {row["item"]: row["answer"] for row in next(iter(found["lists"].values()))}
    assert tripod["17"] == UNKNOWN and found["sheets"]["st<b>mary"]["how labels were made"] == UNKNOWN
    assert "phantom" not in page


def test_the_command_and_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="finished run"):
        write_checklists(tmp_path)
    assert CliRunner().invoke(app, ["checklists", str(_run(tmp_path, "phantom"))]).output.strip().endswith("checklists.html")
