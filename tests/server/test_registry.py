"""The registry: versions keep their lineage, decisions their reasons, and a changed byte is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from server.registry import Registry
from server.registry_place import registry_of
from server.runs.record import seal_run
from shared_models.bundle import Bundle, write_bundle
from shared_models.core.errors import BadInput
from shared_models.core.files import write_json
from shared_models.experiment import Experiment
from sim.cli import app


def _run(folder: Path, weight: float) -> Path:
    experiment = Experiment.from_json('{"name":"tiny","data":{"kind":"patches","classes":["x","y"]},"model":{"name":"patch_cnn"}}')
    folder.mkdir()
    (folder / "experiment.json").write_text(experiment.to_json())
    sites = {name: {"num_cases": 20, "refused": None, "metrics": {}} for name in "ab"}
    (folder / "rounds.jsonl").write_text(f'{{"round": 1, "sites": {str(sites).replace(chr(39), chr(34)).replace("None", "null")}, "missing": []}}\n')
    write_json(
        folder / "run.json", {"sites": [{"name": "a", "role": "training"}, {"name": "b", "role": "training"}, {"name": "c", "role": "held out"}]}
    )
    write_json(folder / "metrics.json", {"federated": {"sites": {}}})
    write_bundle(folder / "bundle", state={"w": np.full(3, weight, np.float32)}, experiment=experiment, card={"training": {"patients": 40}})
    seal_run(folder)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    for number in (1, 2, 3):
        registry.add(_run(tmp_path / f"run{number}", float(number)), model="fibrosis")
    return registry


def test_a_version_keeps_where_it_comes_from_and_outlives_its_run(registry: Registry, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run1")
    first = Registry(registry.folder).get("fibrosis", 1)
    assert (first.version, first.experiment, first.sites, first.rounds, first.epsilon) == (1, "tiny", "a, b", 1, "none")
    assert registry.verify("fibrosis", 1) == []


def test_promotion_and_roll_back_go_through_the_history_with_reasons(registry: Registry) -> None:
    assert registry.in_use("fibrosis") is None
    with pytest.raises(BadInput, match="in use"):
        registry.get("fibrosis")
    for version in (1, 2, 3):
        registry.promote("fibrosis", version, reason=f"reason {version}")
    with pytest.raises(BadInput, match="already"):
        registry.promote("fibrosis", 3, reason="again")
    registry.roll_back("fibrosis", reason="worse at c")
    assert registry.get("fibrosis").version == 2
    registry.roll_back("fibrosis", reason="that one too")
    assert registry.get("fibrosis").version == 1
    with pytest.raises(BadInput, match="before"):
        registry.roll_back("fibrosis", reason="and on")
    registry.promote("fibrosis", 3, reason="mended at c")
    registry.roll_back("fibrosis", reason="no")
    assert registry.get("fibrosis").version == 1
    assert [event.reason for event in registry.events()][3:5] == ["worse at c", "that one too"]
    with pytest.raises(BadInput, match="reason"):
        registry.promote("fibrosis", 2, reason=" ")


def test_decisions_and_versions_cannot_be_rewritten(registry: Registry) -> None:
    registry.promote("fibrosis", 1, reason="first")
    registry.record_export(registry.get("fibrosis", 1).bundle, registry.folder / "registry.db", form="onnx", difference=0.0)
    with sqlite3.connect(registry.folder / "registry.db") as database:
        rewritten = ("UPDATE events SET reason = 'x'", "UPDATE versions SET bundle = 'x'", "UPDATE exports SET sha256 = 'x'")
        for statement in (*rewritten, "DELETE FROM events", "DELETE FROM versions", "DELETE FROM exports"):
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                database.execute(statement)


@pytest.mark.parametrize("name", ["bundle/model.safetensors", "bundle/card.json", "rounds.jsonl", "record.jsonl", "seal.json", "experiment.json"])
def test_one_flipped_byte_is_named_and_keeps_a_version_out_of_use(registry: Registry, name: str) -> None:
    path = registry.path("fibrosis", 2) / name
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert any(name in fault for fault in registry.verify("fibrosis", 2))
    with pytest.raises(BadInput, match="what was registered"):
        registry.promote("fibrosis", 2, reason="hurry")
    assert registry.verify("fibrosis", 1) == []


def test_only_a_whole_run_is_taken_in_and_only_once(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="version 1 of fibrosis"):
        registry.add(tmp_path / "run1", model="other")
    run = _run(tmp_path / "run4", 4.0)
    with pytest.raises(BadInput, match="another key"):
        registry.add(run, public="00" * 32)
    (run / "metrics.json").write_text("{}")
    with pytest.raises(BadInput, match=r"metrics\.json"):
        registry.add(run)
    with pytest.raises(BadInput, match="letters"):
        registry.add(_run(tmp_path / "run5", 5.0), model="../escape")
    assert len(registry.versions()) == 3


def test_the_commands_tell_the_same(registry: Registry) -> None:
    folder = ["--folder", str(registry.folder)]
    call = CliRunner().invoke
    assert "fibrosis 2 is in use" in call(app, ["registry", "promote", "fibrosis", "2", "--reason", "good", *folder]).output
    listed = call(app, ["registry", "list", *folder]).output.splitlines()
    assert len(listed) == 3 and [line.endswith("in use") for line in listed] == [False, True, False]
    shown = call(app, ["registry", "show", "fibrosis", *folder]).output
    assert "promoted by" in shown and ": good" in shown and "Research use only" in shown
    assert call(app, ["registry", "verify", *folder]).exit_code == 0
    (registry.path("fibrosis", 3) / "seal.json").unlink()
    told = call(app, ["registry", "verify", *folder])
    assert told.exit_code == 1 and "fibrosis 3: seal.json" in told.output


def test_an_export_leaves_a_line_by_which_a_copy_anywhere_is_known(registry: Registry, tmp_path: Path) -> None:
    folder, call = ["--folder", str(registry.folder)], CliRunner().invoke
    out, copy = tmp_path / "model.onnx", tmp_path / "elsewhere.onnx"
    (tmp_path / "monai").mkdir()
    for number, content in ((1, b"one"), (2, b"two")):  # the second takes the place of the first
        out.write_bytes(content)
        (tmp_path / "monai" / "weights").write_bytes(content)
        bundle = registry.get("fibrosis", number).bundle
        registry.record_export(bundle, out, form="onnx", difference=2e-7)
        registry.record_export(bundle, tmp_path / "monai", form="monai", difference=0.0)
    copy.write_bytes(b"one")
    assert [(one.number, one.version, one.form, one.difference) for one in registry.exports("fibrosis", 2)] == [
        (3, 2, "onnx", 2e-7),
        (4, 2, "monai", 0.0),
    ]
    assert "fibrosis 1, exported" in call(app, ["registry", "trace", str(copy), *folder]).output
    assert "fibrosis 2, exported" in call(app, ["registry", "trace", str(tmp_path / "monai"), *folder]).output
    assert registry.verify("fibrosis", 1) == registry.verify("fibrosis", 2) == []
    (tmp_path / "monai" / "weights").write_bytes(b"tw0")
    copy.write_bytes(b"other")
    assert registry.verify("fibrosis", 2) == ["export 4 (monai, monai) is not what was exported"]
    assert registry.verify("fibrosis", 1) == []
    assert call(app, ["registry", "trace", str(copy), *folder]).exit_code == 1
    assert "export 4" in call(app, ["registry", "verify", *folder]).output
    registry.promote("fibrosis", 2, reason="the release itself is whole")
    shown = call(app, ["registry", "show", "fibrosis", "2", *folder]).output
    assert f"exported by {registry.exports()[2].by}: onnx, SHA-256 {registry.exports()[2].sha256}, at most 2e-07" in shown
    told = json.loads(call(app, ["registry", "show", "fibrosis", "2", "--format", "json", *folder]).output)
    assert [one["path"] for one in told["exports"]] == [str(out), str(tmp_path / "monai")] and told["version"]["version"] == 2
    out.unlink()
    assert registry.verify("fibrosis", 2) == ["export 4 (monai, monai) is not what was exported"]  # what was taken away is no fault


def test_the_registry_of_an_export_is_found_or_refused(registry: Registry, tmp_path: Path) -> None:
    bundle, here = registry.get("fibrosis", 2).bundle, tmp_path / "a" / "b" / "c" / "d"
    held = registry.path("fibrosis", 2) / "bundle"
    for place, looked in ((held, here), (here, registry.folder)):
        assert (found := registry_of(bundle, place, here=looked)) is not None and found.folder == registry.folder
    assert registry_of(bundle, here, here=here) is None and registry_of("00" * 32, held, here=registry.folder) is None
    with pytest.raises(BadInput, match="must be registered"):
        registry_of("00" * 32, held, here=here, named=registry.folder)
    with pytest.raises(BadInput, match=r"registry\.db"):
        registry_of(bundle, held, here=registry.folder, named=tmp_path)


def test_the_export_command_leaves_its_lines(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(release: Bundle, path: Path) -> SimpleNamespace:  # the forms are tested in tests/client/export, and import torch
        path.write_text(release.digest)
        return SimpleNamespace(path=path, error=3e-7)

    monkeypatch.setitem(sys.modules, "client.export", SimpleNamespace(EXPORTS={"onnx": plain}))
    held = str(registry.path("fibrosis", 2) / "bundle")
    told = CliRunner().invoke(app, ["export", held, "--onnx", str(tmp_path / "x.onnx")]).output
    assert f"export 1 of fibrosis 2 in the registry {registry.folder.resolve()}" in told
    [line] = registry.exports()
    assert (line.version, line.form, line.difference, Path(line.path).name) == (2, "onnx", 3e-7, "x.onnx")
