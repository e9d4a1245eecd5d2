"""Prepared hospitals are lent, not shared: what a run writes reaches neither the store nor the next run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared_models.experiment import Experiment
from sim.experiments import find
from sim.hospital.plan import plan_hospital
from sim.hospital.preset import HospitalPreset
from sim.hospital_store import borrow, keep, key_of

PRESET = HospitalPreset("one", scanner="A", patients=3)


@pytest.fixture
def experiment() -> Experiment:
    return find("vgg", [])


@pytest.fixture
def store(tmp_path: Path, experiment: Experiment) -> Path:
    home = tmp_path / "first" / "hospitals" / "one"
    files = {"dicom/p/1.dcm": "image", "clinical.csv": "id", "site.toml": "[site]", "workspace/cache/a.safetensors": "voxels"}
    files |= {"workspace/cohort.json": "{}", "workspace/what-left.jsonl": "start\n"}
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (tmp_path / "first" / "truth" / "one").mkdir(parents=True)
    (tmp_path / "first" / "truth" / "one" / "truth.json").write_text("{}")
    assert keep(tmp_path / "store", [PRESET], experiment, tmp_path / "first") == ["one"]
    assert keep(tmp_path / "store", [PRESET], experiment, tmp_path / "first") == []
    return tmp_path / "store"


def test_a_run_gets_the_files_and_keeps_its_own_traces(tmp_path: Path, store: Path, experiment: Experiment) -> None:
    for name in ("second", "third"):
        assert borrow(store, [PRESET], experiment, tmp_path / name) == ["one"]
        home = tmp_path / name / "hospitals" / "one"
        assert (home / "dicom/p/1.dcm").samefile(tmp_path / "first/hospitals/one/dicom/p/1.dcm")
        assert (home / "workspace/cache/a.safetensors").stat().st_nlink > 1
        assert (home / "workspace/what-left.jsonl").read_text() == "start\n"
        with open(home / "workspace/what-left.jsonl", "a") as file:
            file.write("an update\n")
        (home / "workspace" / "strategy").mkdir()
        assert (tmp_path / name / "truth/one/truth.json").exists()
    assert not list(store.rglob("strategy"))
    assert not list(store.glob("new-*"))


def test_what_is_there_is_left_alone(tmp_path: Path, store: Path, experiment: Experiment) -> None:
    (tmp_path / "out" / "hospitals" / "one").mkdir(parents=True)
    assert borrow(store, [PRESET], experiment, tmp_path / "out") == []
    assert not list((tmp_path / "out" / "hospitals" / "one").iterdir())


@pytest.mark.parametrize("other", [replace(PRESET, patients=4), replace(PRESET, scanner="B"), replace(PRESET, noise_hu=3.0)])
def test_another_hospital_has_another_name(tmp_path: Path, store: Path, experiment: Experiment, other: HospitalPreset) -> None:
    assert key_of(other, experiment) != key_of(PRESET, experiment)
    assert borrow(store, [other], experiment, tmp_path / "out") == []


def test_another_seed_or_preparation_has_another_name(experiment: Experiment) -> None:
    assert key_of(PRESET, find("vgg", ["seed=1"])) != key_of(PRESET, experiment)
    assert key_of(PRESET, find("vgg", ["preparation.segmenter.name=whole_lung"])) != key_of(PRESET, experiment)
    assert key_of(PRESET, find("pmff_net", [])) == key_of(PRESET, experiment)


def test_a_mix_in_another_order_draws_others_and_has_another_name(experiment: Experiment) -> None:
    preset = HospitalPreset("north", scanner="A", patients=12, mix={"UIP": 1, "normal": 1})
    turned = replace(preset, mix={"normal": 1, "UIP": 1})
    assert [one.klass for one in plan_hospital(preset, seed=0)] != [one.klass for one in plan_hospital(turned, seed=0)]
    assert key_of(preset, experiment) != key_of(turned, experiment)
