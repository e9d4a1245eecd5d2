"""The zoo: a system that runs is judged by figures of its run, one that fails is told and stops nothing, what is finished is not run again."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from client.training.personal import kept_keys
from client.training.records import Records
from shared_models.core.errors import BadChoice, BadInput
from shared_models.core.files import read_json, sha256, write_json
from shared_models.experiment import Experiment
from shared_models.networks.mobile_unet_v3 import mobile_unet_v3
from shared_models.pretrained import FOLDER
from sim.check import load_checked
from sim.zoo import attenuation, keeper
from sim.zoo.ablations import TWINS, own_parts, twins
from sim.zoo.criteria import FEDERATED, Criterion, metric
from sim.zoo.findings import findings
from sim.zoo.generated import drawn
from sim.zoo.keeper import COLUMNS, finished, in_words, table, zoo
from sim.zoo.locating import located, planted
from sim.zoo.ran import Ran
from sim.zoo.systems import DEPTHWISE, SYSTEMS, System, recipes

SMALL = [
    "inputs.slices=2",
    "train.epochs=1",
    "federation.rounds=1",
    "evaluation.bootstrap=20",
    "federation.quorum=2",
    'simulation.hospitals=[{name="alpha",scanner="A"},{name="beta",scanner="B"},{name="delta",scanner="E",patients=6}]',
    "simulation.defaults={patients=14,mix={normal=1,UIP=1,NSIP=1},resolution=6.0,grid_mm=6.0}",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoo")
    assert zoo(out, only=["vgg"], settings=SMALL, processes=1, quiet=True) == out / "zoo.html"
    return out


@pytest.fixture(scope="module")
def ran(small: Path) -> Ran:
    return Ran(load_checked("vgg", SMALL), small / "vgg", small / "hospitals")


def test_a_row_holds_the_figures_of_the_run(small: Path, ran: Ran) -> None:
    (row,) = read_json(small / "zoo.json")["systems"]
    metrics = read_json(small / "vgg" / "metrics.json")
    assert "error" not in row
    assert row["federated"] == metrics["federated"]["held_out"]["auroc_macro"]
    assert row["alone"] == pytest.approx(np.mean([one["held_out"]["auroc_macro"]["value"] for one in metrics["local_only"].values()]))
    assert row["parameters"] > 1000 and row["seconds"] > 0
    assert row["bytes_a_round"] > 2 * 4 * row["parameters"] * 0.9  # two hospitals, four bytes a weight
    asked = {one["says"]: one for one in row["asked"]}
    assert asked["Accuracy, unseen patients"]["value"] == metrics["federated"]["held_out"]["accuracy"]["value"]
    assert asked["Accuracy, unseen patients"]["met"] == (asked["Accuracy, unseen patients"]["value"] >= 0.85)
    assert row["works"] == all(one["met"] for one in row["asked"])
    assert len(asked) == len(SYSTEMS["vgg"].asked) + len(FEDERATED)


def test_page_and_table_say_it(small: Path) -> None:
    page = (small / "zoo.html").read_text(encoding="utf-8")
    assert "says nothing about patients" in page and "Reported by its authors, not by us" in page and "http" not in page.replace("http-equiv", "")
    (line,) = table(small)
    assert len(line) == len(COLUMNS) and line[0] == "vgg" and line[-1].endswith(" of 3")


def test_what_is_finished_is_not_run_again_and_a_failure_stops_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise BadInput("no luck today")

    monkeypatch.setattr(keeper, "simulate", refuse)
    zoo(small, only=["pmff_net", "vgg"], settings=SMALL, processes=1, quiet=True)
    rows = {row["name"]: row for row in read_json(small / "zoo.json")["systems"]}
    assert "no luck today" in rows["pmff_net"]["error"] and "works" in rows["vgg"]
    assert "no luck" in in_words(rows["pmff_net"])
    assert {line[0]: line[-1] for line in table(small)}["pmff_net"] == "failed"
    assert "no luck today" in (small / "zoo.html").read_text(encoding="utf-8")
    with pytest.raises(BadChoice, match="did you mean 'pmff_net'"):
        zoo(small, only=["pmff"], quiet=True)


def test_another_experiment_takes_the_place_of_a_run(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg").mkdir()
    (tmp_path / "vgg" / "experiment.json").write_text("{}")
    (tmp_path / "vgg" / "report.html").write_text("old")
    asked: list[bool] = []
    monkeypatch.setattr(keeper, "simulate", lambda experiment, folder, *, resume, **rest: asked.append(resume))
    experiment = load_checked("vgg", SMALL)
    finished(experiment, tmp_path / "vgg", tmp_path / "store", processes=1)
    assert asked == [False] and not (tmp_path / "vgg" / "report.html").exists()
    (tmp_path / "vgg").mkdir()
    (tmp_path / "vgg" / "experiment.json").write_text(experiment.to_json())
    finished(experiment, tmp_path / "vgg", tmp_path / "store", processes=1)
    assert asked == [False, True]


def test_planted_disease_lies_in_the_lungs_that_the_model_sees(ran: Ran) -> None:
    found = list(planted(ran))
    assert 3 <= len(found) <= 4  # two of six are normal; their bit of ground glass may be too small to see
    brighter = []
    for patient in found:
        assert patient.record.shape == patient.disease.shape == patient.lung.shape == (2, 32, 32)
        shares = (patient.disease & patient.lung).sum() / patient.disease.sum()
        assert shares > 0.7
        brighter.append(patient.record[patient.disease & patient.lung].mean() - patient.record[patient.lung & ~patient.disease].mean())
    assert np.mean(brighter) > 0.05


def test_maps_are_looked_at_once(ran: Ran) -> None:
    found = located(ran, "grad_cam")
    assert all(value is not None and math.isfinite(value) for value in found.values())
    write_json(ran.folder / "located-grad_cam.json", found | {"alike": 0.25})
    assert located(ran, "grad_cam")["alike"] == 0.25


def test_a_variant_that_changes_nothing_is_the_run_itself(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.zoo.ran.run_cell", None)
    again = ran.again("with", {}, seed=ran.experiment.seed)
    assert again["auroc_macro"] == ran.value("auroc_macro") and again["macro_f1"] == ran.value("macro_f1")
    assert not (ran.folder / "variants").exists()


@pytest.mark.zoo
def test_a_variant_runs_over_the_same_hospitals_once(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ran.again("smooth", {}, settings=("train.label_smoothing=0.3", "train.steps=1"), seed=5)
    assert 0 <= first["auroc_macro"] <= 1
    monkeypatch.setattr("sim.zoo.ran.run_cell", None)
    assert ran.again("smooth", {}, settings=("train.label_smoothing=0.3", "train.steps=1"), seed=5) == first


@pytest.mark.zoo
def test_parts_kept_at_home_are_judged_at_home_and_beside_all_shared(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = own_parts(("head",), seeds=1, says="x", least=None)  # this network has no normalisation
    gain, shared = asked.figure(ran), ran.at_home("shared", ("strategy.name=fedavg",), seed=ran.experiment.seed)
    kept = ran.at_home("own-parts", ("strategy.name=fedper", 'strategy.personal=["head"]'), seed=ran.experiment.seed)
    assert gain is not None and kept is not None and shared is not None and gain == pytest.approx(kept - shared)
    assert 0 <= kept <= 1 and asked.met(gain) is None
    (cell,) = (ran.folder / "variants").glob("own-parts-*")
    assert sorted(read_json(cell / "cell.json")["homes"]) == ["alpha", "beta"]
    monkeypatch.setattr("sim.zoo.ran.run_cell", None)  # what is finished is read again
    assert asked.figure(ran) == gain
    with pytest.raises(BadInput, match="validation patients"):
        Ran(load_checked("vgg", [*SMALL, "evaluation.validation=0"]), ran.folder, ran.store).at_home("x", ())


def test_all_normalisation_kept_at_home_is_fedbn() -> None:
    values = {"strategy.name=fedbn": 0.75, 'strategy.personal=["a.*"]': 0.5, "strategy.name=fedavg": 0.625}
    fake: Any = SimpleNamespace(
        experiment=SimpleNamespace(seed=3), headline="auroc_macro", at_home=lambda label, settings, seed: values[settings[-1]] + seed / 100
    )
    gains = [own_parts(parts, seeds=2, says="x", least=0.0).figure(fake) for parts in (("normalisation",), ("a.*",))]
    assert gains == pytest.approx([0.125, -0.125])
    fake.headline = "brier"  # less is better
    assert own_parts(("normalisation",), seeds=1, says="x", least=0.0).figure(fake) == pytest.approx(-0.125)


def test_depthwise_norms_are_those_behind_filters_of_one_channel() -> None:
    network = mobile_unet_v3(1, 5, width=8, pyramid=16, features=32)
    encoder = dict(network.named_modules())
    alone = [name for name, one in encoder.items() if name.startswith("encoder.features.") and isinstance(one, nn.Conv2d) and one.groups > 1]
    behind = {f"{name.rpartition('.')[0]}.1" for name in alone}
    assert len(alone) == 11 and all(isinstance(encoder[name], nn.GroupNorm) for name in behind)
    assert {key.rpartition(".")[0] for key in kept_keys(network, DEPTHWISE)} == behind


def test_a_criterion_that_breaks_is_told_beside_the_others(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ran: Ran) -> float:
        raise BadInput("cannot be computed")

    monkeypatch.setitem(SYSTEMS, "vgg", System("x", (Criterion("broken", broken, least=0.0), metric("accuracy", 0.0))))
    row = findings(ran)
    assert [one["met"] for one in row["asked"][:2]] == [False, True] and not row["works"]
    assert "cannot be computed" in row["asked"][0]["error"]
    json.dumps(row, allow_nan=False)


def test_twins_differ_by_place_alone() -> None:
    records = twins(load_checked("vit_ild", ["inputs.slices=4", "inputs.size=32"]), "alpha")
    assert set(TWINS) == {"basal_ggo", "apical_ggo"} and np.bincount(records.labels).tolist() == [10, 10]
    height = np.array([bag[:2].mean() - bag[2:].mean() for bag in records.inputs])  # slices run from base to apex
    assert height[records.labels == 0].mean() > height[records.labels == 1].mean() + 0.01
    assert abs(records.inputs[records.labels == 0].mean() - records.inputs[records.labels == 1].mean()) < 0.03


def test_what_a_recipe_starts_from_runs_first_and_names_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    seen: list[tuple[str, str | None]] = []

    def run(experiment: Experiment, folder: Path, store: Path, **rest: object) -> Path:
        seen.append((experiment.name, os.environ.get(FOLDER)))
        (folder / "bundle").mkdir(parents=True, exist_ok=True)
        (folder / "bundle" / "model.safetensors").write_bytes(b"weights")
        return folder

    monkeypatch.setattr(keeper, "finished", run)
    monkeypatch.setattr(keeper, "findings", lambda ran: {"sha256": ran.experiment.model.knobs["weights"]["sha256"]})
    zoo_row = keeper._row("masked_finetuned", tmp_path, (), 1, True)
    assert zoo_row == {"sha256": sha256(b"weights")}
    assert seen == [("masked_pretraining", None), ("masked_finetuned", str(tmp_path / "masked_pretraining" / "bundle"))]
    assert FOLDER not in os.environ


def test_the_worst_hospital_answers_for_a_generator(ran: Ran, tmp_path: Path) -> None:
    other = replace(ran, folder=tmp_path)
    for values, most, least in (((10.0, 50.0), 50.0, 10.0), ((10.0, None), None, None), ((), None, None)):
        write_json(tmp_path / "generation.json", {f"site{number}": {"x": value} for number, value in enumerate(values)})
        assert (drawn("x", "", most=40.0).figure(other), drawn("x", "", least=5.0).figure(other)) == (most, least)


def test_pixels_that_attenuation_alone_tells_apart_leave_nothing_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (4, 2, 8, 8)).astype(np.uint8)
    truth[0, 0, 0] = 255  # nobody drew here
    records = Records(((truth % 250 + rng.uniform(0.1, 0.9, truth.shape)) / 6).astype(np.float32), np.zeros(4), tuple("abcd"), targets=truth)
    monkeypatch.setattr(attenuation, "Site", SimpleNamespace(load=lambda path: SimpleNamespace(workspace=path)))
    monkeypatch.setattr(attenuation, "all_records", lambda place, experiment: records)
    monkeypatch.setattr(attenuation, "cohort_of", lambda place, experiment: SimpleNamespace(cases=[0, 1, 2, 3]))
    monkeypatch.setattr(attenuation, "drawn_study", lambda case, experiment, workspace: records.take([case]))
    classes = SimpleNamespace(data=SimpleNamespace(classes=("a", "b", "c")))
    seen: Any = SimpleNamespace(experiment=classes, training=["x", "y"], held_out=["z"], value=lambda metric: 0.9)
    assert attenuation.over_attenuation().figure(seen) == pytest.approx(-0.1)
    np.asarray(records.targets)[:] = rng.permutation(truth.ravel()).reshape(truth.shape)
    found = attenuation.over_attenuation().figure(seen)
    assert found is not None and found > 0.3


def test_every_recipe_of_the_survey_is_kept() -> None:
    assert set(SYSTEMS) <= set(recipes())
