"""The whole way: phantom hospitals to report, a kill in the middle, real patches from a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from server.reports.released import evaluate_released
from shared_models.bundle import load_bundle, write_bundle
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_state
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.run_record import added, read_record, verify
from sim.cli import app
from sim.crossvalidation import spread, stratified_folds
from sim.evaluation import evaluate
from sim.settings import Patches, simulation_of
from sim.simulation import simulate

TINY = """
name = "tiny"
[data]
classes = ["normal", "UIP", "OP"]
[inputs]
slices = 4
size = 32
mask_outside = true
[model]
name = "mil_cnn"
widths = [8, 16]
features = 16
[train]
batch = 4
class_weights = "prior"
[federation]
rounds = 2
quorum = 3
[evaluation]
bootstrap = 50
[simulation]
held_out = ["away"]
defaults = { patients = 13, grid_mm = 4.0, resolution = 5.0, mix = { normal = 1, UIP = 1, OP = 1 } }
hospitals = [
  { name = "one", scanner = "A" },
  { name = "two", scanner = "B" },
  { name = "three", scanner = "C" },
  { name = "away", scanner = "F", patients = 6 },
]
"""

PATCHES = """
name = "squares"
[data]
kind = "patches"
classes = ["dark", "bright", "mixed"]
[model]
name = "patch_cnn"
width = 4
bins = 8
hidden = 8
[train]
batch = 16
steps = 1
augment = [{ name = "flip" }]
[federation]
rounds = 50
quorum = 3
[evaluation]
folds = 2
bootstrap = 20
headline = "mean_recall"
[simulation]
kind = "patches"
source = "patches.npz"
sites = 3
alpha = 2.0
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(TINY)
    report = simulate(Experiment.load(folder / "tiny.toml"), folder / "run", quiet=True, processes=2)
    assert report == folder / "run" / "report.html"
    return folder / "run"


def test_metrics_have_the_agreed_schema(tiny: Path) -> None:
    metrics = json.loads((tiny / "metrics.json").read_text())
    assert metrics["experiment"] == "tiny" and metrics["classes"] == ["normal", "UIP", "OP"] and metrics["rounds"] == 2
    assert set(metrics["local_only"]) == {"one", "two", "three"} == set(metrics["federated"]["sites"])
    held = metrics["federated"]["held_out"]
    names = {"auroc_macro", "auprc_macro", "balanced_accuracy", "brier", "ece", "auroc_normal", "auroc_UIP", "auroc_OP"}
    for table in (held, *(metrics[name]["held_out"] for name in ("pooled", "one_shot_ensemble")), metrics["local_only"]["one"]["held_out"]):
        assert names <= set(table)
        assert all({"value", "low", "high", "n"} <= set(table[name]) for name in names)
        assert table["auroc_macro"]["n"] == 6
    assert {"hospitals", "prepare", "federate", "baselines", "judge"} <= set(json.loads((tiny / "times.json").read_text()))
    assert metrics["data"]["kind"] == "phantom"


def test_rounds_are_logged_once_each_with_every_site(tiny: Path) -> None:
    rounds = [json.loads(line) for line in (tiny / "rounds.jsonl").read_text().splitlines()]
    assert [r["round"] for r in rounds] == [1, 2]
    assert all(set(r["sites"]) == {"one", "two", "three"} and not r["degraded"] and r["missing"] == [] for r in rounds)
    assert all(site["num_cases"] >= 10 for r in rounds for site in r["sites"].values())


def test_the_bundle_is_the_final_state(tiny: Path) -> None:
    bundle = load_bundle(tiny / "bundle")
    assert digest(bundle.state) == digest(read_state(tiny / "federation" / "final.safetensors"))
    assert bundle.card["trained_on"] == "phantoms" and bundle.experiment.simulation is None


def test_the_run_is_sealed_and_one_changed_round_is_named(tiny: Path, tmp_path: Path) -> None:
    assert verify(tiny) == [] == added(tiny)
    entries, _, _ = read_record(tiny)
    assert [entry["kind"] for entry in entries] == ["experiment", "sites", "round", "round", "release", "files"]
    assert set(entries[1]["body"]["cohorts"]) == {"one", "two", "three", "away"}
    assert entries[4]["body"]["bundle"] == json.loads((tiny / "bundle" / "manifest.json").read_text())["bundle"]
    told = CliRunner().invoke(app, ["verify", str(tiny)])
    assert told.exit_code == 0 and "as it was sealed" in told.output
    copied = shutil.copytree(tiny, tmp_path / "copy", ignore=shutil.ignore_patterns("hospitals", "truth", "federation"))
    log = copied / "rounds.jsonl"
    log.write_text(log.read_text().replace('"degraded": false', '"degraded": true', 1))
    told = CliRunner().invoke(app, ["verify", str(copied)])
    assert told.exit_code == 1 and told.output.strip() == "rounds.jsonl is not the file that was sealed: round 1"


def test_a_run_is_judged_from_every_side_and_what_misleads_is_said_first(tiny: Path, tmp_path: Path) -> None:
    page = evaluate(tiny, leave_one_site_out=True, processes=2, quiet=True)
    found = json.loads((page.parent / "evaluation.json").read_text())
    assert set(found["matrix"]) == {"federated", "pooled", "one", "two", "three"}
    held = json.loads((tiny / "metrics.json").read_text())
    for model, arm in (("federated", held["federated"]), ("one", held["local_only"]["one"])):
        assert found["matrix"][model]["away"]["value"] == arm["held_out"]["auroc_macro"]["value"]
    assert found["ranking"]["order"] is None and "not ranked" in found["warnings"][-1]
    assert set(found["leave_one_site_out"]["sites"]) == {"one", "two", "three", "away"}
    rounds = [json.loads(line) for line in (page.parent / "leave-one-site-out" / "two" / "rounds.jsonl").read_text().splitlines()]
    assert all(set(line["sites"]) == {"one", "three", "away"} and line["missing"] == ["away"] for line in rounds)  # too few patients to train
    assert found["leave_one_site_out"]["all"]["patients"] == 3 * 13 + 6
    assert sum(cell["n"] for cell in found["subgroups"]["sex"]["groups"].values()) == 6
    assert found["twins"] == []
    text = page.read_text()
    assert "says nothing about patients" in text and "undefined" in text and "net benefit" in text
    assert found["splits"]["kind"] == "geographic" and found["splits"]["temporal"] is None
    for row in found["released"].values():
        assert row["positives"] + row["negatives"] + row["missing"] == 6
        assert row["auroc"]["value"] is None or row["auroc"]["low"] <= row["exact"]["auroc"] <= row["auroc"]["high"]
    told = evaluate_released(tiny)
    assert "asked for no histograms" in told.read_text()
    bundle = load_bundle(tiny / "bundle")
    changed = bundle.experiment.model_copy(update={"data": bundle.experiment.data.model_copy(update={"classes": ("normal", "OP", "UIP")})})
    write_bundle(tmp_path / "wrong", state=bundle.state, experiment=changed, card={})
    with pytest.raises(BadInput, match="prepared as it was trained on") as caught:
        evaluate(tiny, bundle=tmp_path / "wrong", quiet=True)
    assert caught.value.value == ["label map"]
    assert verify(tiny) == []  # what was added later is no part of the record


def test_baselines_take_the_same_budget_of_steps(tiny: Path) -> None:
    steps = json.loads((tiny / "baselines" / "steps.json").read_text())
    rounds = [json.loads(line) for line in (tiny / "rounds.jsonl").read_text().splitlines()]
    federated = {site: sum(r["sites"][site]["steps"] for r in rounds) for site in ("one", "two", "three")}
    assert {site: steps[site] for site in federated} == federated
    assert abs(steps["pooled"] - sum(federated.values())) <= len(federated) * len(rounds)


def test_the_client_never_opened_the_truth_and_nothing_identifying_left_the_hospital(tiny: Path) -> None:
    outside = [p for p in tiny.rglob("*") if p.is_file() and not {"hospitals", "truth"} & set(p.relative_to(tiny).parts)]
    assert len(outside) > 10
    for path in outside:
        assert b"PHANTOM-" not in path.read_bytes(), path
    for path in (tiny / "hospitals").glob("*/workspace/**/*"):
        if path.is_file() and path.name not in ("items.csv", "site.key"):
            assert b"PHANTOM-" not in path.read_bytes(), path


def test_the_report_says_phantom_and_shows_every_class(tiny: Path) -> None:
    html = (tiny / "report.html").read_text()
    assert "phantom" in html.lower() and "Research use only" in html
    assert not re.search(r"(src|href)=[\"']https?://", html)
    assert len(json.loads((tiny / "pictures" / "index.json").read_text())) == 3


def test_a_run_folder_is_used_once_and_resumed_only_by_the_same_experiment(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    same = Experiment.load(tmp_path / "tiny.toml")
    with pytest.raises(BadInput, match="--resume"):
        simulate(same, tiny, quiet=True)
    other = Experiment.load(tmp_path / "tiny.toml", ["train.batch=5"])
    with pytest.raises(BadInput, match="same TOML"):
        simulate(other, tiny, quiet=True, resume=True)
    before = digest(read_state(tiny / "federation" / "final.safetensors"))
    simulate(same, tiny, quiet=True, resume=True)
    assert digest(read_state(tiny / "federation" / "final.safetensors")) == before


def write_patches(path: Path) -> None:
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 80)
    hu = generator.normal(np.array([-960, -820, -890])[label][:, None, None], 30, (240, 15, 15))
    hu[label == 2, ::2] += 60
    np.savez(path, hu=hu.astype(np.int16), label=label.astype(np.int8), names=np.array(["dark", "bright", "mixed"]))


def run_patches(folder: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sim.cli", "simulate", str(folder / "squares.toml"), "--out", str(out), "--data", str(folder), "--quiet", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONWARNINGS": "ignore"})


def test_a_killed_simulation_continues_to_bit_equal_weights(tmp_path: Path) -> None:
    write_patches(tmp_path / "patches.npz")
    (tmp_path / "squares.toml").write_text(PATCHES)
    broken = run_patches(tmp_path, tmp_path / "broken")
    until = time.monotonic() + 120
    while not (tmp_path / "broken" / "fold-1" / "federation" / "checkpoints").exists() and time.monotonic() < until and broken.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    assert broken.returncode == -signal.SIGKILL
    whole = run_patches(tmp_path, tmp_path / "whole")
    assert not (tmp_path / "broken" / "fold-1" / "federation" / "final.safetensors").exists()
    shutil.rmtree(tmp_path / "broken" / "fold-1" / "federation" / "spool", ignore_errors=True)
    resumed = run_patches(tmp_path, tmp_path / "broken", "--resume")
    for process in (whole, resumed):
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    for fold in (0, 1):
        states = [read_state(tmp_path / run / f"fold-{fold}" / "federation" / "final.safetensors") for run in ("whole", "broken")]
        assert digest(states[0]) == digest(states[1])
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert metrics["data"]["kind"] == "real" and metrics["federated"]["held_out"]["mean_recall"]["n"] == 240
    assert metrics["federated"]["held_out"]["mean_recall"]["value"] > 0.4
    assert metrics["federated"]["held_out"] == json.loads((tmp_path / "broken" / "metrics.json").read_text())["federated"]["held_out"]
    assert (
        "no patient" in (tmp_path / "whole" / "report.html").read_text().lower()
        or "without patient" in (tmp_path / "whole" / "report.html").read_text()
    )


def test_folds_keep_duplicates_together_and_classes_even() -> None:
    generator = np.random.default_rng(1)
    hu = generator.integers(-1000, 0, (60, 3, 3)).astype(np.int16)
    hu[10] = hu[3]
    label = np.array(["a", "b", "c"])[np.arange(60) % 3]
    label[10] = label[3]
    folds = stratified_folds(hu, label, 5, seed=0)
    assert folds[10] == folds[3]
    for name in "abc":
        counts = np.bincount(folds[label == name], minlength=5)
        assert counts.max() - counts.min() <= 2


def patients_of_patches(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches whose texture is their patient's and says nothing of their class; every patient has patches of two classes."""
    generator = np.random.default_rng(seed)
    patients, level = np.repeat(np.arange(24), 10), generator.normal(-800, 60, 24).round()
    label = np.where(generator.permuted(np.tile(np.arange(10) < 2, (24, 1)), axis=1).ravel() != (patients % 2 == 0), "a", "b")
    hu = (level[patients, None, None] + generator.normal(0, 1, (240, 3, 3))).astype(np.int16)
    return hu, label, np.char.add("p", patients.astype(str))


def test_a_patient_is_on_one_side_at_one_site_and_slices_dealt_at_random_would_flatter(tmp_path: Path) -> None:
    hu, label, patients = patients_of_patches(0)
    flat = hu.reshape(len(hu), -1).astype(float)
    nearest = np.abs(flat[:, None] - flat[None]).sum(2)

    def right(folds: np.ndarray) -> float:
        away = np.where(folds[:, None] == folds[None], np.inf, nearest)
        return float((label[away.argmin(1)] == label).mean())

    folds = stratified_folds(hu, label, 4, seed=0, groups=patients)
    assert all(len(set(folds[patients == one])) == 1 for one in set(patients))
    assert np.ptp(np.bincount(folds, minlength=4)) <= 20
    assert right(stratified_folds(hu, label, 4, seed=0)) > right(folds) + 0.1, "patches of a known patient give the class away"

    (tmp_path / "squares.toml").write_text(PATCHES)
    experiment = Experiment.load(tmp_path / "squares.toml")
    settings = simulation_of(experiment)
    assert isinstance(settings, Patches)
    tomls, test = spread(experiment, settings, hu, label, folds == 0, tmp_path, seed=0, patients=patients)
    seen = [set(np.load(toml.parent / "patches.npz")["patient"].tolist()) for toml in (*tomls, test)]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 24


def test_missing_real_data_and_a_missing_simulation_are_named(tmp_path: Path) -> None:
    (tmp_path / "squares.toml").write_text(PATCHES)
    with pytest.raises(BadInput, match="FEDILD_REAL_DATA"):
        simulate(Experiment.load(tmp_path / "squares.toml"), tmp_path / "out", data=tmp_path / "nowhere", quiet=True)
    with pytest.raises(BadExperiment, match="simulation"):
        simulation_of(Experiment.load(tmp_path / "squares.toml").for_sites())
