"""Phantom hospitals whose readers report findings, from table to report and prediction; and what `fedild check` says of such experiments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.predict import predict_study
from client.prepare import prepare_folder
from client.selection import all_records, cohort_of
from client.site import Site
from shared_models.bundle import write_bundle
from shared_models.catalogue import initial_state
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from sim.check import faults
from sim.compare import compare
from sim.comparison.arms import Arm
from sim.hospital.hospital import make_hospital
from sim.hospital.preset import HospitalPreset
from sim.simulation import simulate

TINY = """
name = "reported"
[data]
target = "findings"
classes = ["ggo", "honeycombing", "consolidation"]
[preparation]
segmenter = { name = "threshold" }
[inputs]
slices = 2
size = 12
[model]
name = "compact_vgg"
width = 4
features = 8
norm = "none"
[train]
batch = 4
class_weights = "balanced"
[federation]
rounds = 1
quorum = 2
[evaluation]
validation = 0.1
bootstrap = 20
[simulation]
held_out = ["away"]
defaults = { patients = 12, grid_mm = 6.0, resolution = 8.0, mix = { OP = 1, UIP = 1 }, findings = 0.7 }
hospitals = [
  { name = "one", scanner = "A" },
  { name = "two", scanner = "E" },
  { name = "away", scanner = "F", patients = 4, findings = 1.0 },
]
"""


def experiment(tmp: Path, settings: list[str] | None = None) -> Experiment:
    (tmp / "reported.toml").write_text(TINY)
    return Experiment.load(tmp / "reported.toml", settings)


def test_from_the_readers_table_to_a_prediction(tmp_path: Path) -> None:
    settings, one = experiment(tmp_path), tmp_path / "one" / "site.toml"
    preset = HospitalPreset("one", "A", 2, mix={"OP": 1, "UIP": 1}, grid_mm=6.0, resolution=8.0, findings=0.5)
    make_hospital(preset, one.parent, tmp_path / "truth", seed=0)
    one.write_text('[site]\nname = "one"\n')
    site = Site.load(one)
    prepare_folder(site.path(site.site.inbox), site.workspace, settings.preparation, secret=b"x" * 32, clinical=site.path(site.site.clinical))
    cohort = cohort_of(site, settings)
    records = all_records(site, settings)
    assert len(cohort.cases) == len(records) == 2 and set(records.labels) == {0}
    truth = read_json(tmp_path / "truth" / "one" / "truth.json")["visits"]
    known = np.asarray(records.targets)
    planted = [sum(visit["extents"].get(name, 0) >= 1 for visit in truth) for name in settings.data.classes]
    assert (np.nansum(known, axis=0) <= planted).all() and np.nansum(known) > 0
    assert np.isnan(known).any() and set(known[~np.isnan(known)]) <= {0.0, 1.0}
    state = initial_state(settings.model, inputs=1, outputs=3, seed=0)
    write_bundle(tmp_path / "bundle", state=state, experiment=settings, card={"trained_on": "phantoms", "intended_use": "none"})
    patient = next((one.parent / "dicom").iterdir())
    page = predict_study(patient, tmp_path / "bundle", tmp_path / "said").read_text(encoding="utf-8")
    said = json.loads((tmp_path / "said" / "prediction.json").read_text())
    assert said["model"]["target"] == "findings" and "each asked on its own" in page and "sum to 100" not in page
    assert all(0 < share < 1 for share in said["series"][0]["probabilities"].values())


@pytest.mark.zoo
def test_a_federation_of_readers_is_judged_finding_by_finding(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = simulate(experiment(tmp_path), out, quiet=True, processes=1).read_text(encoding="utf-8")
    metrics = read_json(out / "metrics.json")
    cells = metrics["federated"]["held_out"]
    assert set(metrics["local_only"]) == {"one", "two"} and "pooled" in metrics
    assert {"auroc_macro", "mean_average_precision", "subset_accuracy", "auroc_ggo"} <= set(cells)
    assert cells["subset_accuracy_all_absent"]["value"] == 0.0 and cells["subset_accuracy"]["n"] == 4  # each has something
    assert "It says of each of ggo, honeycombing and consolidation whether a patient has it" in text
    assert "Subset accuracy of calling everything absent" in text


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.label_smoothing=0.1", "train.label_smoothing: it is of one class"),
        ("train.class_weights=prior", "of findings they are 'none' or 'balanced'"),
        ('model={name="unet"}', "predicts a segmentation"),
        ("evaluation.headline=accuracy", "no metric 'accuracy'"),
        ("simulation.defaults.findings=0", "['one', 'two'] report no findings"),
    ],
)
def test_what_does_not_go_with_findings_is_named(setting: str, words: str, tmp_path: Path) -> None:
    assert any(words in fault for fault in faults(experiment(tmp_path, [setting])))


@pytest.mark.parametrize(
    "setting", ['privacy={unit="patient",noise_multiplier=1.0}', 'data.merge={a="ggo"}', 'data.classes=["a b","c"]', "data.kind=table"]
)
def test_what_no_findings_are_is_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(BadExperiment):
        experiment(tmp_path, [setting])


def test_strategies_are_not_compared_on_findings(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="classes of patients"):
        compare(experiment(tmp_path), [Arm("fedavg")], tmp_path / "out", seeds=1)
