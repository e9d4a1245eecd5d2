"""Hospitals whose readers have drawn on some slices, from phantom to report; and what `fedild check` says of such experiments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.cases.cache import load
from client.cases.cohort import Cohort
from client.predict import predict_study
from client.site import Site
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from sim.check import faults
from sim.compare import compare
from sim.comparison.arms import Arm
from sim.privacy_audit import audit
from sim.simulation import simulate

TINY = """
name = "drawn"
[data]
target = "segmentation"
classes = ["normal", "ggo", "consolidation"]
[preparation]
segmenter = { name = "threshold" }
[inputs]
slices = 3
size = 32
[model]
name = "unet"
widths = [4, 8]
[train]
batch = 4
optimiser = { name = "adamw", lr = 0.02 }
[federation]
rounds = 2
quorum = 2
[evaluation]
validation = 0.1
bootstrap = 20
headline = "dice"
[simulation]
held_out = ["away"]
defaults = { patients = 11, grid_mm = 6.0, resolution = 7.0, mix = { OP = 1 }, annotated = 0.3 }
hospitals = [
  { name = "one", scanner = "A" },
  { name = "two", scanner = "E", shuffled = true },
  { name = "away", scanner = "F", patients = 3, annotated = 1.0 },
]
"""


def experiment(tmp: Path, settings: list[str] | None = None) -> Experiment:
    (tmp / "drawn.toml").write_text(TINY)
    return Experiment.load(tmp / "drawn.toml", settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    simulate(experiment(folder), folder / "run", processes=2, quiet=True)
    return folder / "run"


def test_what_was_planted_is_what_was_drawn(run: Path) -> None:
    for name, share in (("two", 0.3), ("away", 1.0)):
        site = Site.load(run / "hospitals" / name / "site.toml")
        truths = {
            len(labels): labels
            for path in sorted((run / "truth" / name).glob("*.npz"))
            for labels in [np.load(path, allow_pickle=False)["labels"][::-1]]
        }
        matched = 0
        for case in Cohort.load(site.workspace / "cohort.json").cases:
            prepared = load(site.workspace / case.visits[0].prepared).prepared
            assert prepared.annotation is not None
            drawn = (prepared.annotation != 255).any((1, 2))
            lung = np.flatnonzero(drawn)
            assert drawn.sum() >= 5
            assert (drawn.sum() == lung[-1] - lung[0] + 1) == (share == 1)
            same = [labels for labels in truths.values() if labels.shape == prepared.annotation.shape]
            matched += any(np.array_equal(labels[drawn], prepared.annotation[drawn]) for labels in same)
        assert matched >= 1
    assert "annotations" in (run / "hospitals" / "one" / "site.toml").read_text()


def test_the_held_out_hospital_is_judged_by_patient(run: Path) -> None:
    metrics = read_json(run / "metrics.json")
    cells = metrics["federated"]["held_out"]
    assert list(cells) == ["dice", "pooled_dice", "dice_ggo", "dice_consolidation"]
    assert cells["dice"]["n"] == 3
    assert 0 <= cells["dice"]["value"] <= 1
    assert cells["dice"]["value"] == pytest.approx((cells["dice_ggo"]["value"] + cells["dice_consolidation"]["value"]) / 2)
    assert list(metrics["local_only"]) == ["one", "two"]
    assert set(metrics["differences"]) == {"local_only", "pooled"}
    drawn = metrics["extents"]["federated"]["consolidation"]
    assert drawn["n"] == 3
    assert 0 < drawn["drawn"] < 40
    assert abs(drawn["bias"]) <= drawn["mae"]
    page = (run / "report.html").read_text()
    assert "Extent of each class in percent of the annotated lung" in page
    assert "Dice (mean over classes)" in page


def test_the_release_says_what_it_is_for(run: Path, tmp_path: Path) -> None:
    card = json.loads((run / "bundle" / "card.json").read_text())
    assert "dice" in card["performance_on_the_held_out_hospital"]
    with pytest.raises(BadInput, match="labels pixels"):
        predict_study(run / "hospitals" / "away" / "dicom", run / "bundle", tmp_path)
    with pytest.raises(BadInput, match="classes of patients"):
        audit(run / "bundle")
    with pytest.raises(BadInput, match="classes of patients"):
        compare(experiment(tmp_path), [Arm("fedavg")], tmp_path / "compare")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluation.headline=auroc_macro", "no metric 'auroc_macro'"),
        ("model={name='mil_cnn'}", "predicts a diagnosis, but data.target is 'segmentation'"),
        ("calibration=[{name='temperature'}]", "calibration: it is of probabilities of patients"),
        ("evaluation.ensemble={name='mean'}", "models that label pixels are not united"),
        ("statistics=[{name='scaler'}]", "'landmarks' alone are of images"),
        ("simulation.defaults.annotated=0", "have no annotated slices"),
        ("train.class_weights=balanced", "train.class_weights: 'unet' has a loss of its own"),
    ],
)
def test_what_does_not_fit_is_named(setting: str, words: str, tmp_path: Path) -> None:
    assert not faults(experiment(tmp_path))
    assert any(words in fault for fault in faults(experiment(tmp_path, [setting])))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.annotation=lung", "two classes"),
        ("data.classes=['normal','scar']", "are none"),
        ("data.classes=['ggo','normal']", "healthy lung"),
        ("data.kind=patches", "reads studies"),
        ("data.target=diagnosis", "nothing"),
        ("inputs.visits=all", "first visit"),
    ],
)
def test_what_the_schema_refuses(setting: str, words: str, tmp_path: Path) -> None:
    settings = [setting, "data.annotation=patterns"] if "diagnosis" in setting else [setting]
    with pytest.raises(BadExperiment, match="annotation belongs to" if words == "nothing" else words):
        experiment(tmp_path, settings)


def test_lungs_are_learnt_on_whole_slices() -> None:
    lung = {"name": "l", "data": {"target": "segmentation", "annotation": "lung"}, "model": {"name": "unet"}}
    assert Experiment.model_validate(lung | {"inputs": {"pixel_mm": 4.0}}).data.classes == ("background", "lung")
    with pytest.raises(ValueError, match=r"needs inputs\.pixel_mm"):
        Experiment.model_validate(lung)
