"""SEG and SR of a prediction: every voxel and every number come back, a validator of another house finds no error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from client.cases.volume import Volume
from client.dicom.header import read_headers
from client.dicom.read import read_series
from client.dicom.results import Maker, Measured, on_slices, report, segment_names, segmentation, title_of
from client.dicom.scan import group, list_files
from shared_models.core.errors import BadInput
from tests.client.dicom_factory import SeriesPlan, chest, dataset, write

MAKER = Maker("fibrosis", "ab" * 32, "0.1.0")
FRAME = {"FrameOfReferenceUID": "1.2.3.9", "StudyID": "7"}
MEASURED = {
    "right lung": [Measured("Volume", 2100.5, "mL")],
    "lungs": [Measured("High attenuation areas", 7.25, "%"), Measured("Undefined here", float("nan"), "%")],
}


def _images(**changed: object) -> list[FileDataset]:
    plan = SeriesPlan(chest(12, 48), extra={**FRAME, **changed})
    return [dataset(plan, k, k + 1) for k in range(12)]


def _labels(images: list[FileDataset]) -> np.ndarray:
    labels = np.zeros((len(images), 48, 48), np.uint8)
    labels[3:8, 10:30, 5:20], labels[4:9, 12:28, 28:40] = 1, 2
    return labels


def _patterns() -> np.ndarray:
    labels = np.zeros((12, 48, 48), np.uint8)
    labels[3:8, 10:24, 5:20] = np.random.default_rng(5).integers(0, len(segment_names(patterns=True)) + 1, (5, 14, 15))
    return labels


def test_every_voxel_of_a_segment_comes_back_where_it_was(tmp_path: Path) -> None:
    from highdicom.seg import segread

    images = _images()
    labels = _labels(images)
    segmentation(images, labels, segment_names(), MAKER).save_as(tmp_path / "seg.dcm")
    read = segread(tmp_path / "seg.dcm")
    back = read.get_pixels_by_source_instance([image.SOPInstanceUID for image in images], combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(back, labels)
    assert [item.SegmentLabel for item in read.SegmentSequence] == ["right lung", "left lung"]
    assert "esearch use only" in read.SeriesDescription and read.PatientID == images[0].PatientID


def test_a_pattern_map_comes_back_with_codes_that_dicom_has_for_its_segments(tmp_path: Path) -> None:
    from highdicom.seg import segread
    from pydicom.sr._concepts_dict import concepts

    images, names = _images(), segment_names(patterns=True)
    labels = _patterns()
    colours = {"ggo": (86, 180, 233)}
    segmentation(images, labels, names, MAKER, series_number=9803, colours=colours).save_as(tmp_path / "seg.dcm")
    read = segread(tmp_path / "seg.dcm")
    assert (read.SeriesNumber, len(read.SegmentSequence)) == (9803, len(names))
    order = [0, *sorted(names)]  # segments are numbered without gaps
    wanted = [image.SOPInstanceUID for image in images]
    back = read.get_pixels_by_source_instance(wanted, combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(np.asarray(order)[back], labels)
    assert [item.SegmentLabel for item in read.SegmentSequence] == [title_of(names[number]) for number in sorted(names)]
    told = {item.SegmentLabel: item.SegmentedPropertyTypeCodeSequence[0] for item in read.SegmentSequence}
    meanings = {code: meaning for entry in concepts["DCM"].values() for code, (meaning, _) in entry.items()}
    listed = {label: kind for label, kind in told.items() if kind.CodingSchemeDesignator == "DCM"}
    assert set(listed) == {"ground glass", "reticulation", "honeycombing", "micronodules"}
    assert all(meanings[kind.CodeValue] == kind.CodeMeaning for kind in listed.values())
    assert told["ground glass with reticulation"].CodingSchemeDesignator == "99FEDILD"
    shown = {item.SegmentLabel: "RecommendedDisplayCIELabValue" in item for item in read.SegmentSequence}
    assert shown["ground glass"] and not shown["emphysema"]


def test_the_report_says_every_number_once_and_what_it_is_for(tmp_path: Path) -> None:
    from highdicom.sr import srread

    images = _images()
    found = segmentation(images, _labels(images), segment_names(), MAKER)
    report(images, found, {"UIP": 0.7, "normal": 0.3}, MEASURED, MAKER).save_as(tmp_path / "sr.dcm")
    read = srread(tmp_path / "sr.dcm")
    assert read.VerificationFlag == "UNVERIFIED" and "Research use only" in read.SeriesDescription
    numbers: list[tuple[str, float]] = []

    def walk(item: pydicom.Dataset) -> None:
        if item.get("ValueType") == "NUM":
            value = item.MeasuredValueSequence[0]
            numbers.append((item.ConceptNameCodeSequence[0].CodeMeaning, float(value.NumericValue)))
        for inner in item.get("ContentSequence", []):
            walk(inner)

    walk(read)
    assert numbers == [
        ("Model output for UIP, research use only", 0.7),
        ("Model output for normal, research use only", 0.3),
        ("Volume", 2100.5),
        ("High attenuation areas", 7.25),
    ]


def test_a_validator_finds_no_error(tmp_path: Path) -> None:
    images = _images()
    found = segmentation(images, _labels(images), segment_names(), MAKER)
    found.save_as(tmp_path / "seg.dcm")
    patterns = segmentation(images, _patterns(), segment_names(patterns=True), MAKER, colours={"ggo": (86, 180, 233)})
    patterns.save_as(tmp_path / "patterns.dcm")
    measured = MEASURED | {"ggo": [Measured("volume", 12.5, "mL")]}
    told_of = report(images, found, {"UIP": 0.7}, measured, MAKER, patterns=patterns)
    told_of.save_as(tmp_path / "sr.dcm")
    assert str(patterns.SOPInstanceUID) in str(told_of.ContentSequence)  # the volume is of that segment
    program = shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    assert program is not None, "dicom3tools is one of the test dependencies"
    for name in ("seg.dcm", "patterns.dcm", "sr.dcm"):
        told = subprocess.run([program, "-new", str(tmp_path / name)], capture_output=True, text=True)
        lines = (told.stdout + told.stderr).splitlines()
        assert any(line in ("Segmentation", "Comprehensive3DSR") for line in lines), lines
        assert [line for line in lines if line.startswith("Error")] == []


def test_what_an_archive_left_out_stays_empty_and_a_missing_frame_of_reference_is_named() -> None:
    images = _images(AccessionNumber=None)
    for image in images:
        del image.StudyID
    assert segmentation(images, _labels(images), segment_names(), MAKER).StudyID in (None, "")
    assert "StudyID" not in images[0]  # the hospital's own images are not touched
    with pytest.raises(BadInput, match="frame of reference"):
        segmentation(_images(FrameOfReferenceUID=""), _labels(images), segment_names(), MAKER)
    with pytest.raises(BadInput, match="needs a label"):
        segmentation(images, np.zeros((12, 48, 48), np.uint8), segment_names(), MAKER)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0)])
def test_labels_of_the_grid_fall_on_the_voxels_they_were_made_from(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    # A series that runs any way through the body is read onto a grid; what is marked there must come back on the very same voxels.
    hu = chest(20, 40)
    write(tmp_path, SeriesPlan(hu, orientation=orientation, extra=FRAME), shuffle=True)
    (series,), _ = group(read_headers(list_files(tmp_path)))
    reading = read_series(series)
    images = [pydicom.dcmread(one.path) for one in reading.slices]
    labels = on_slices((reading.volume.hu < -700).astype(np.uint8), reading.volume, images)
    for image, marked in zip(images, labels, strict=True):
        values = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        assert np.array_equal(marked == 1, values < -700)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0), (0.8, 0.6, 0, -0.6, 0.8, 0), (1, 0, 0, 0, 0.96, 0.28)])
def test_nearest_voxels_are_those_of_the_slow_definition(orientation: tuple[float, ...]) -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    grid = Volume(np.zeros(labels.shape, np.float32), (4.0, 9.0, 10.0), (-150.0, -150.0, -100.0))
    images = _images(ImageOrientationPatient=list(orientation))[:5]
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    found = on_slices(labels, grid, images)
    assert (found > 0).any()
    for number, image in enumerate(images):
        for row, column in generator.integers(0, 48, (40, 2)):
            x, y, z = (np.asarray(image.ImagePositionPatient, float) + 5.0 * (column * along + row * down)) - np.array(grid.origin_mm)
            at = np.rint([z / 4.0, y / 9.0, x / 10.0]).astype(int)
            inside = all(0 <= part < size for part, size in zip(at, labels.shape, strict=True))
            assert found[number, row, column] == (labels[tuple(at)] if inside else 0)
