"""What a finished run leaves: the bundle opens, the report says who was missing, numbers are those that the sites released."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from server.runs.outcome import close_run
from server.runs.stopping import Released
from shared_models.bundle import load_bundle
from shared_models.core.files import read_json, write_json, write_state
from shared_models.experiment import Experiment


def _line(number: int, missing: list[str]) -> dict:
    sites = {
        name: {"num_cases": 0 if name in missing else 20, "steps": 3, "metrics": {}, "refused": None, "bytes": 10, "norm": 1.0} for name in "abc"
    }
    for name in missing:
        sites[name]["refused"] = "E_NO_REPLY"
    return {"round": number, "wall_s": 2.0, "sites": sites, "missing": missing, "degraded": bool(missing), "norm": 1.0, "bytes": 30, "attempt": 1}


def test_a_finished_run_leaves_bundle_report_and_numbers(tmp_path: Path) -> None:
    text = '{"name":"tiny","data":{"kind":"patches","classes":["x","y"]},"model":{"name":"patch_cnn"},"federation":{"rounds":2}}'
    experiment = Experiment.from_json(text)
    (tmp_path / "experiment.json").write_text(experiment.to_json())
    write_state(tmp_path / "final.safetensors", {"w": np.arange(6, dtype=np.float32)})
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (_line(1, []), _line(2, ["c"]))))
    write_json(tmp_path / "site_metrics.json", {"a": {"val_auroc_macro": 0.75, "val_cases": 12.0}, "b": {}})
    standing = {"status": "finished", "code": "", "sites": [{"name": name, "role": "training"} for name in "abc"], "flower_run_ids": ["1"]}
    write_json(tmp_path / "run.json", standing)

    report = close_run(tmp_path)

    page = report.read_text()
    assert "E_NO_REPLY" in page
    assert "degraded" in page
    bundle = load_bundle(tmp_path / "bundle")
    assert np.array_equal(bundle.state["w"], np.arange(6, dtype=np.float32))
    assert bundle.card["training"]["degraded"] == "yes"
    assert bundle.card["training"]["missing"] == "c in 1 rounds"
    assert read_json(tmp_path / "metrics.json")["federated"]["sites"] == {"a": {"auroc_macro": 0.75}, "b": {}}
    run = read_json(tmp_path / "run.json")
    assert run["missing"] == {"c": {"rounds": [2], "share": 0.3333}}
    assert (run["status"], run["parameters"], run["digest"]) == ("finished", 6, experiment.digest)
    close_run(tmp_path)  # again is the same


def test_the_round_that_was_released_is_said(tmp_path: Path) -> None:
    text = '{"name":"tiny","data":{"kind":"patches","classes":["x","y"]},"model":{"name":"patch_cnn"},"federation":{"rounds":9,"stopping":{}}}'
    experiment = Experiment.from_json(text)
    (tmp_path / "experiment.json").write_text(experiment.to_json())
    write_state(tmp_path / "final.safetensors", {"w": np.arange(6, dtype=np.float32)})
    lines = [{**_line(number, []), "late": ["b"] if number == 2 else []} for number in (1, 2, 3)]
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(tmp_path / "release.json", Released(2, 3, 9, "val_loss", 0.4321).as_dict())
    write_json(tmp_path / "site_metrics.json", {})
    write_json(tmp_path / "run.json", {"status": "finished", "sites": [{"name": name, "role": "training"} for name in "abc"]})

    page = close_run(tmp_path).read_text()

    says = "the state after round 2 of 3, the best by val_loss (0.4321); stopped before round 9 because it no longer got better"
    assert f"Released is {says}." in page
    assert "in 3 rounds" in page
    assert "b was still at work in round 2." in page
    training = load_bundle(tmp_path / "bundle").card["training"]
    assert (training["rounds"], training["released"]) == (3, says)
