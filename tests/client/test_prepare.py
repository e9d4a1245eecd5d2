"""Messy patients: whatever is wrong with the files, the HU are right or the fault has a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from client.cases.cache import DamagedCache, load
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.dicom import tags
from client.prepare import PrepareReport, prepare_folder
from client.training.records import refuse_gaps
from shared_models.catalogue import MODELS
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadCohort, BadInput
from shared_models.experiment import Preparation
from tests.client.dicom_factory import SeriesPlan, chest, write

SECRET = bytes(range(32))
CHEST = chest()


def prepare(folder: Path, **options: object) -> PrepareReport:
    return prepare_folder(folder, folder.parent / "work", Preparation(), secret=SECRET, **options)  # pyright: ignore[reportArgumentType]


def hu_of(report: PrepareReport, folder: Path) -> np.ndarray:
    return load(folder.parent / "work" / report.cohort.cases[0].visits[0].prepared).prepared.volume.hu


def codes(report: PrepareReport) -> set[str]:
    return {finding["code"] for line in report.accepted for finding in line["findings"]}


def reasons(report: PrepareReport) -> set[str]:
    return {line["reason"] for line in report.skipped + report.quarantined}


def padded_truth(hu: np.ndarray) -> np.ndarray:
    y, x = np.ogrid[: hu.shape[1], : hu.shape[2]]
    centre = (hu.shape[1] - 1) / 2
    out = hu.astype(np.float32)
    out[:, (y - centre) ** 2 + (x - centre) ** 2 > (centre + 1) ** 2] = -1024
    return out


def test_the_messy_patient(tmp_path: Path) -> None:
    """Shuffled numbers, intercept -8192, padding -3024, a corrupt slice, a localizer, a derived series, foreign files: HU within 0.5."""
    folder = tmp_path / "in"
    plan = SeriesPlan(CHEST, intercept=-8192.0, padding=8192 - 3024)
    paths = write(folder / "a" / "b", plan, shuffle=True)
    data = paths[17].read_bytes()
    paths[17].write_bytes(data[: len(data) - 4000])
    write(folder, SeriesPlan(CHEST[:2], series="1.2.3.1.2", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), prefix="L"))
    write(folder, SeriesPlan(CHEST, series="1.2.3.1.3", image_type=("DERIVED", "SECONDARY", "MPR"), prefix="D"))
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty.dcm").write_bytes(b"")
    report = prepare(folder)
    assert len(report.accepted) == 1
    assert {"CORRUPT_SLICE", "MISSING_SLICE"} <= codes(report)
    assert sorted(line["reason"] for line in report.skipped) == ["DERIVED", "EMPTY_FILE", "LOCALIZER", "NOT_DICOM"]
    assert [line["reason"] for line in report.quarantined] == ["TRUNCATED"] and report.quarantined[0]["remedy"]
    found, truth = hu_of(report, folder), padded_truth(CHEST)
    good = [k for k in range(len(CHEST)) if k != 17]
    assert np.abs(found[good] - truth[good]).max() <= 0.5
    assert np.abs(found[17] - (truth[16] + truth[18]) / 2).max() <= 0.5


@pytest.mark.parametrize(
    "plan",
    [
        SeriesPlan(CHEST, intercept=0.0, signed=True),
        SeriesPlan(CHEST, intercept=-1024.0),
        SeriesPlan(CHEST, intercept=-8192.0),
        SeriesPlan(CHEST, slope=0.5, intercept=-2000.0),
        SeriesPlan(CHEST, intercept=0.0, signed=True, padding=-2000),
        SeriesPlan(CHEST, intercept=-1024.0, signed=True, padding=-2000),
        SeriesPlan(CHEST, intercept=0.0, signed=True, extra={"RescaleType": None, "KVP": None, "AccessionNumber": None, "StudyTime": None}),
    ],
)
def test_rescale_and_padding(tmp_path: Path, plan: SeriesPlan) -> None:
    folder = tmp_path / "in"
    write(folder, plan, shuffle=True)
    report = prepare(folder)
    truth = padded_truth(CHEST) if plan.padding is not None else CHEST
    assert np.abs(hu_of(report, folder) - truth).max() <= 0.5


def test_slope_per_slice(tmp_path: Path) -> None:
    """Scanners of PET/CT write another slope for every slice; one for all would be wrong by hundreds of HU."""
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST, intercept=-1024.0), skip=tuple(range(0, 40, 2)))
    write(folder, SeriesPlan(CHEST, intercept=-3000.0, slope=2.0, prefix="X"), skip=tuple(range(1, 40, 2)))
    report = prepare(folder)
    assert np.abs(hu_of(report, folder) - CHEST).max() <= 1.0  # a slope of 2 cannot store odd values


@pytest.mark.parametrize("flipped", ["rows", "columns", "both"])
def test_one_frame_for_all_orders(tmp_path: Path, flipped: str) -> None:
    """Prone or mirrored storage: x still grows to the left, y to the back."""
    hu, row, column, start = CHEST, [1, 0, 0], [0, 1, 0], [-150.0, -150.0]
    if flipped in ("rows", "both"):
        hu, column, start[1] = hu[:, ::-1], [0, -1, 0], -150.0 + 63 * 5
    if flipped in ("columns", "both"):
        hu, row, start[0] = hu[:, :, ::-1], [-1, 0, 0], -150.0 + 63 * 5
    plan = SeriesPlan(np.ascontiguousarray(hu), orientation=(*row, *column))
    plan.position = lambda k: [start[0], start[1], -100.0 + 5 * k]  # type: ignore[method-assign]
    folder = tmp_path / "in"
    write(folder, plan, shuffle=True)
    report = prepare(folder)
    stored = load(tmp_path / "work" / report.cohort.cases[0].visits[0].prepared).prepared.volume
    np.testing.assert_allclose(stored.hu, CHEST, atol=0.5)
    assert stored.origin_mm == (-150.0, -150.0, -100.0)


def test_gantry_tilt_is_straightened(tmp_path: Path) -> None:
    tilt = np.radians(10)
    # rows of a flat image: tilting the gantry moves each slice within its own plane
    plan = SeriesPlan(CHEST, orientation=(1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))))
    folder = tmp_path / "in"
    write(folder, plan)
    report = prepare(folder)
    assert "GANTRY_TILT" in codes(report)
    volume = load(tmp_path / "work" / report.cohort.cases[0].visits[0].prepared).prepared.volume
    assert volume.spacing_mm[0] == pytest.approx(5 * np.cos(tilt), abs=1e-3)
    assert volume.direction is not None
    steps = volume.direction * np.array(volume.spacing_mm)[:, None]
    assert abs(steps[0] @ steps[1]) < 1e-6  # the grid is a right-angled one
    # a bone in the spine is where its slice said it was
    k, y, x = 30, 47, 32
    place = np.array([-150 + 5 * x, -150 + 5 * y * np.cos(tilt), -100 + 5 * k + 5 * y * np.sin(tilt)])
    index = np.linalg.solve(steps.T, place - np.array(volume.origin_mm))
    near = volume.hu[tuple(np.rint(index).astype(int))]
    assert abs(near - 400) < 60


def test_gap_of_several_slices(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST), skip=(18, 19, 20))
    assert reasons(prepare(folder)) == {"GAP"}


def test_uneven_steps(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    heights = list(np.cumsum(np.tile([4.0, 5.0, 5.0, 6.0], 10)))
    write(folder, SeriesPlan(CHEST, heights_mm=heights))
    assert "UNEVEN_STEPS" in codes(prepare(folder))


def test_rounded_positions_are_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST, step_mm=5.0, heights_mm=[round(5.0 * k, 0) + (0.1 if k % 3 else 0.0) for k in range(40)]))
    report = prepare(folder)
    assert not codes(report) & {"UNEVEN_STEPS", "MISSING_SLICE"}
    assert np.abs(hu_of(report, folder) - CHEST).max() <= 0.5


def test_equal_twins_and_unequal_twins(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    paths = write(folder, SeriesPlan(CHEST))
    shutil.copy(paths[3], folder / "copy")
    report = prepare(folder)
    assert len(report.accepted) == 1 and reasons(report) == {"DUPLICATE_FILE"}
    other = SeriesPlan(np.flip(CHEST, axis=0).copy(), prefix="T", extra={"SOPInstanceUID": "1.2.9"})
    write(folder, other, skip=tuple(k for k in range(40) if k != 5))
    assert reasons(prepare(folder)) == {"DUPLICATE_FILE", "DUPLICATE_POSITIONS"}


def test_a_garbled_slice_is_found_by_its_looks(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    paths = write(folder, SeriesPlan(CHEST))
    data = paths[20].read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, 8192, np.uint8).tobytes()
    paths[20].write_bytes(data[:-8192] + noise)
    report = prepare(folder)
    assert {"CORRUPT_SLICE", "MISSING_SLICE"} <= codes(report) and reasons(report) == {"CORRUPT_SLICE"}
    assert np.abs(hu_of(report, folder)[20] - (CHEST[19].astype(float) + CHEST[21]) / 2).max() <= 0.5


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (SeriesPlan(CHEST[:12]), "TOO_FEW_SLICES"),
        (SeriesPlan(CHEST, extra={"Modality": "MR"}), "NOT_CT"),
        (SeriesPlan(CHEST, extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}), "NOT_CT"),
        (SeriesPlan(CHEST, extra={"PatientID": ""}), "NO_PATIENT_ID"),
        (SeriesPlan(CHEST, extra={"PatientID": "---"}), "NO_PATIENT_ID"),
        (SeriesPlan(CHEST, extra={"ImagePositionPatient": None}), "NO_GEOMETRY"),
        (SeriesPlan(CHEST, extra={"PixelSpacing": None}), "NO_GEOMETRY"),
        (SeriesPlan(CHEST, extra={"BurnedInAnnotation": "YES"}), "BURNED_IN"),
        (SeriesPlan(CHEST, orientation=(1, 0, 0, 0, 0, -1)), "NOT_AXIAL"),
        (SeriesPlan(CHEST, extra={"RescaleIntercept": "0", "RescaleSlope": "1"}), "NOT_HU"),
        (SeriesPlan(CHEST, extra={"PhotometricInterpretation": "MONOCHROME1"}), "PIXEL_FORMAT"),
        (SeriesPlan(np.full_like(CHEST, 40)), "NOT_HU"),
        (SeriesPlan(np.where(np.arange(64) < 32, -1000, 40).astype(np.int16) + 0 * CHEST), "NO_LUNG"),
    ],
)
def test_turned_away_by_name(tmp_path: Path, plan: SeriesPlan, reason: str) -> None:
    folder = tmp_path / "in"
    write(folder, plan)
    report = prepare(folder)
    assert not report.accepted and reasons(report) == {reason}
    assert reason in tags.SKIPPED or reason in tags.QUARANTINED


def test_two_patients_in_one_series(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST[:20]))
    write(folder, SeriesPlan(CHEST, patient="Roe-1", prefix="R"), skip=tuple(range(20)))
    assert reasons(prepare(folder)) == {"TWO_PATIENTS"}


def test_damaged_headers_cost_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    paths = write(folder, SeriesPlan(CHEST))
    whole = paths[0].read_bytes()
    random = np.random.default_rng(2)
    for number in range(120):
        spoilt = bytearray(whole)
        for place in random.integers(132, 1200, 4):
            spoilt[place] = int(random.integers(256))
        (folder / f"z{number}").write_bytes(bytes(spoilt[: int(random.integers(140, len(spoilt)))]))
    report = prepare(folder)
    assert len(report.accepted) == 1
    assert np.abs(hu_of(report, folder)[1:] - CHEST[1:]).max() <= 0.5 or "CORRUPT_SLICE" in codes(report)


def test_spellings_visits_and_clinical_table(tmp_path: Path) -> None:
    """One patient under two spellings on two days is one case; the table joins on id and day."""
    folder = tmp_path / "in"
    write(folder / "1", SeriesPlan(CHEST, patient="Doe-0007", date="20240531", study="1.5.1", series="1.5.1.1"))
    write(folder / "2", SeriesPlan(chest(seed=1), patient=" doe 0007", date="20240630", study="1.5.2", series="1.5.2.1"))
    write(folder / "3", SeriesPlan(chest(seed=2), patient="0042", date="20240101", study="1.5.3", series="1.5.3.1", kernel="LUNG"))
    table = tmp_path / "clinical.csv"
    table.write_text(
        "patient_id,study_date,diagnosis,age,sex,fvc_percent,time_years,event\n"
        "DOE0007,2024-05-31,UIP,95,female,71,,\ndoe 0007,2024-06-30,UIP,,F,68.5,,\n42,,NSIP,61,M,,2.5,1\n"
    )
    report = prepare(folder, clinical=table)
    names = Pseudonyms(SECRET)
    by_name = {case.pseudonym: case for case in report.cohort.cases}
    doe, other = by_name[names.patient("doe0007")], by_name[names.patient("42")]
    assert [v.days for v in doe.visits] == [0, 30] and doe.label == "UIP" and other.label == "NSIP"
    assert [v.clinical.get("fvc_percent") for v in doe.visits] == [71.0, 68.5]
    assert doe.visits[0].clinical["age"] == 90.0 and doe.visits[1].clinical["age"] == 73.0  # from the header
    assert other.visits[0].clinical == {"age": 61.0, "sex": "M", "male": 1.0, "time_years": 2.5, "event": 1.0}
    assert report.cohort.classes == ("NSIP", "UIP")
    again = Cohort.load(tmp_path / "work" / "cohort.json")
    assert again.digest == report.cohort.digest and again.cases[0].visits[0].features == report.cohort.cases[0].visits[0].features


def test_processes_and_repeats_change_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for n in range(3):
        write(folder / str(n), SeriesPlan(chest(seed=n), patient=f"P{n}", study=f"1.6.{n}", series=f"1.6.{n}.1"))
    steps: list[tuple[int, int]] = []
    one = prepare_folder(folder, tmp_path / "a", Preparation(), secret=SECRET, progress=lambda done, all_: steps.append((done, all_)))
    two = prepare_folder(folder, tmp_path / "b", Preparation(), secret=SECRET, processes=2)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert one.as_dict() == two.as_dict() and one.cohort.digest == two.cohort.digest
    for path in sorted((tmp_path / "a" / "cache").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "cache" / path.name).read_bytes()


def test_damaged_cache_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST))
    report = prepare(folder)
    path = tmp_path / "work" / report.cohort.cases[0].visits[0].prepared
    good = path.read_bytes()
    for place in (4, 60, 200, 700, len(good) // 2, len(good) - 1):
        spoilt = bytearray(good)
        spoilt[place] ^= 16
        path.write_bytes(bytes(spoilt))
        with pytest.raises(DamagedCache):
            load(path)
    again = prepare(folder)
    assert path.read_bytes() == good and again.as_dict() == report.as_dict()


def test_other_settings_other_cache(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST))
    made = set()
    for preparation in (Preparation(), Preparation(grid_mm=(5, 6, 6)), Preparation(steps=(Choice(name="window"),))):
        report = prepare_folder(folder, tmp_path / "work", preparation, secret=SECRET)
        made.add(report.cohort.cases[0].visits[0].prepared.name)
        assert report.cohort.cases[0].visits[0].features["whole_mld_hu"] == pytest.approx(-850, abs=15)  # never from windowed values
    assert len(made) == 3


def test_hrct_with_gaps_is_for_models_of_slices(tmp_path: Path) -> None:
    """Thin slices with unseen lung between them: no slice is invented by resampling, models of slices take them, models of volumes refuse."""
    folder = tmp_path / "in"
    write(folder, SeriesPlan(CHEST, extra={"SliceThickness": "1"}))
    report = prepare_folder(folder, tmp_path / "work", Preparation(grid_mm=(2, 6, 6)), secret=SECRET)
    assert "GAPPED" in codes(report)
    stored = load(tmp_path / "work" / report.cohort.cases[0].visits[0].prepared)
    assert stored.prepared.volume.spacing_mm == (5.0, 6.0, 6.0) and len(stored.prepared.volume.hu) == len(CHEST)
    takes = {spec.takes: spec for spec in MODELS.values()}
    refuse_gaps(stored, takes["slices"])
    with pytest.raises(BadCohort, match="without gaps"):
        refuse_gaps(stored, takes["volume"])


def test_days_and_characteristics_go_when_the_site_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "1", SeriesPlan(CHEST, study="1.5.1", series="1.5.1.1"))
    write(folder / "2", SeriesPlan(chest(seed=1), date="20240630", study="1.5.2", series="1.5.2.1"))
    kept = prepare(folder).cohort.cases[0].visits
    assert [visit.days for visit in kept] == [0, 30] and kept[0].clinical["age"] == 73.0
    gone = prepare(folder, retain_characteristics=False, shift_dates=False).cohort.cases[0].visits
    assert [visit.days for visit in gone] == [0, 0] and gone[0].clinical == {}


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must exist"):
        prepare_folder(tmp_path / "none", tmp_path / "w", Preparation())
    with pytest.raises(BadChoice, match="did you mean 'window'"):
        prepare_folder(tmp_path, tmp_path / "w", Preparation(steps=(Choice(name="windwo"),)))
    key = tmp_path / "w" / "site.key"
    prepare_folder(tmp_path, tmp_path / "w", Preparation())
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(BadInput, match="owner alone"):
        prepare_folder(tmp_path, tmp_path / "w", Preparation())
