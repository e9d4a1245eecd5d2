"""Hospitals on disk: what was declared is there, truth lies apart, and the number of processes leaves no trace."""

import csv
import hashlib
import json

import numpy as np
import pydicom
import pytest

from shared_models.core.errors import BadChoice, BadInput
from sim.hospital.hospital import CLINICAL_COLUMNS, make_hospital, make_hospitals
from sim.hospital.plan import plan_hospital
from sim.hospital.preset import HospitalPreset
from sim.phantom.diseases import CLASSES
from sim.phantom.lesions import LESIONS

COARSE = {"grid_mm": 6.0, "resolution": 6.0}
PRESETS = [
    HospitalPreset("north", "A", 4, {"UIP": 1, "normal": 1}, visits=3, **COARSE),
    HospitalPreset(
        "south",
        "D",
        4,
        {"NSIP": 1.0, "OP": 1.0},
        shuffled=True,
        prone=0.5,
        localizer=0.25,
        derived=0.25,
        corrupt=0.25,
        missing_dlco=0.5,
        label_noise=0.25,
        intercept=-8192,
        **COARSE,
    ),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospitals")
    calls = []
    folders = make_hospitals(PRESETS, root / "sites", root / "truth", seed=5, processes=2, on_patient=lambda *call: calls.append(call))
    return root, folders, calls


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder):
    with open(folder / "clinical.csv", newline="") as file:
        return list(csv.DictReader(file))


def truth_of(root, name):
    return json.loads((root / "truth" / name / "truth.json").read_text())


def test_any_number_of_processes_writes_the_same_bytes(made, tmp_path):
    root, folders, _ = made
    for preset in PRESETS:
        make_hospital(preset, tmp_path / "sites" / preset.name, tmp_path / "truth", seed=5)
        assert digests(tmp_path / "sites" / preset.name) == digests(folders[preset.name])
    assert digests(tmp_path / "truth") == digests(root / "truth")


def test_every_row_has_its_study_and_its_truth(made):
    root, folders, calls = made
    assert sorted(calls) == sorted((preset.name, done, 4) for preset in PRESETS for done in range(1, 5))
    for preset in PRESETS:
        folder = folders[preset.name]
        rows, truth = rows_of(folder), truth_of(root, preset.name)["visits"]
        assert tuple(rows[0]) == CLINICAL_COLUMNS
        assert [(row["patient_id"], row["study_date"]) for row in rows] == [(visit["patient_id"], visit["study_date"]) for visit in truth]
        assert {path.name for path in (folder / "dicom").iterdir()} == {row["patient_id"] for row in rows}
        for row, visit in zip(rows, truth, strict=True):
            studies = {next(study.rglob("*.dcm")): study for study in (folder / "dicom" / row["patient_id"]).iterdir()}
            dates = [str(pydicom.dcmread(path, stop_before_pixels=True).StudyDate) for path in studies]
            assert dates.count(row["study_date"]) == 1
            assert row["diagnosis"] in CLASSES
            assert 25 <= int(row["age"]) <= 100
            assert float(row["time_years"]) > 0
            assert row["event"] in "01"
            with np.load(root / "truth" / preset.name / f"{row['patient_id']}-{row['study_date']}.npz", allow_pickle=False) as masks:
                labels, lung = masks["labels"], masks["lung"]
            assert labels.shape == lung.shape
            for name, percent in visit["extents"].items():
                if name in LESIONS:  # the mask is sampled on the scan, the truth counted on the phantom
                    found = 100 * np.count_nonzero(labels == LESIONS[name].code) / np.count_nonzero(lung)
                    assert found == pytest.approx(percent, abs=4.0)


def test_what_the_preset_declares_is_there_exactly(made):
    root, folders, _ = made
    rows, truth = rows_of(folders["south"]), truth_of(root, "south")["visits"]
    assert sorted(visit["class"] for visit in truth) == ["NSIP", "NSIP", "OP", "OP"]
    assert sum(row["dlco_percent"] == "" for row in rows) == 2
    assert sum(row["fvc_percent"] == "" for row in rows) == 0
    assert sum(row["diagnosis"] != visit["class"] for row, visit in zip(rows, truth, strict=True)) == 1
    series = [path.name for path in (folders["south"] / "dicom").glob("*/*/*")]
    assert [series.count(f"series-{number}") for number in (1, 2, 3, 4)] == [4, 2, 1, 1]
    kinds = [str(pydicom.dcmread(next(path.iterdir())).ImageType[2]) for path in (folders["south"] / "dicom").glob("*/*/series-[34]")]
    assert sorted(kinds) == ["LOCALIZER", "MIP"]
    example = pydicom.dcmread(next((folders["south"] / "dicom").rglob("series-2/*.dcm")))
    assert (example.RescaleIntercept, example.PatientPosition) == (-8192, "HFP")


def test_follow_up_visits_progress_and_end_with_life(made):
    root, _, _ = made
    visits = truth_of(root, "north")["visits"]
    by_patient = {}
    for visit in visits:
        by_patient.setdefault(visit["patient_id"], []).append(visit)
    assert any(len(own) > 1 for own in by_patient.values())
    for own in by_patient.values():
        assert [visit["fibrosis"] for visit in own] == sorted(visit["fibrosis"] for visit in own)
        assert len({visit["lung_ml"] for visit in own}) == 1
        assert len({visit["class"] for visit in own}) == 1


def test_nothing_true_lies_in_the_hospital(made):
    _, folders, _ = made
    for folder in folders.values():
        assert {path.name for path in folder.iterdir()} == {"dicom", "clinical.csv"}
        assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".dcm", ".csv"}


def test_a_hospital_is_never_written_over_another(made, tmp_path):
    _, folders, _ = made
    with pytest.raises(BadInput, match="new folder"):
        make_hospital(PRESETS[0], folders["north"], tmp_path, seed=5)
    with pytest.raises(BadInput, match="outside"):
        make_hospital(PRESETS[0], tmp_path / "site", tmp_path / "site", seed=5)
    with pytest.raises(BadInput, match="different names"):
        make_hospitals([PRESETS[0], PRESETS[0]], tmp_path, tmp_path / "truth", seed=5)


def test_counts_follow_the_largest_remainder():
    assert HospitalPreset("x", "A", 7, {"UIP": 0.5, "NSIP": 0.3, "OP": 0.2}).counts() == {"UIP": 4, "NSIP": 2, "OP": 1}
    assert HospitalPreset("x", "A", 1, {"UIP": 0.4, "NSIP": 0.6}).counts() == {"UIP": 0, "NSIP": 1}


def test_a_hospital_may_set_its_scanner_otherwise():
    machine = HospitalPreset("x", "B", 3, noise_hu=90.0, hu_shift=-20.0, intercept=0, padding=-2000, resolution=1).machine()
    assert (machine.noise_hu, machine.hu_shift, machine.intercept, machine.padding, machine.kernel) == (90.0, -20.0, 0, -2000, "sharp")


def test_a_plan_depends_on_seed_and_name():
    preset = HospitalPreset("x", "A", 6)
    same, other = HospitalPreset("x", "B", 6), HospitalPreset("y", "A", 6)
    assert plan_hospital(preset, seed=1) == plan_hospital(same, seed=1)
    assert plan_hospital(preset, seed=1) != plan_hospital(other, seed=1)
    assert plan_hospital(preset, seed=1) != plan_hospital(preset, seed=2)
    assert all(plan.body % 2 == (plan.course.person.sex == "M") for plan in plan_hospital(preset, seed=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "../up"}, "name"),
        ({"patients": 0}, "patients"),
        ({"mix": {}}, "mix"),
        ({"label_noise": 1.5}, "label_noise"),
        ({"resolution": 0.2}, "resolution"),
        ({"visits": 0}, "visits"),
    ],
)
def test_impossible_presets_are_refused_by_name(wrong, message):
    with pytest.raises(BadInput, match=message):
        HospitalPreset(**{"name": "x", "scanner": "A", "patients": 3, **wrong})


def test_unknown_scanners_and_classes_are_refused_with_a_hint():
    with pytest.raises(BadChoice, match="no scanner 'Z'"):
        HospitalPreset("x", "Z", 3)
    with pytest.raises(BadChoice, match="did you mean 'UIP'"):
        HospitalPreset("x", "A", 3, {"UIPP": 1.0})
