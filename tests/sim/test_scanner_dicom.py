"""The files: read back voxel for voxel, complete for CT Image Storage, and untidy exactly where asked."""

from dataclasses import replace
from datetime import date

import numpy as np
import pydicom
import pytest

from sim.phantom.patient import make_phantom
from sim.scanner.dicom import Identity, write_series
from sim.scanner.scanner import SCANNERS, scan

WHO = Identity("PHANTOM-T-0001", "Phantom^T0001", date(1950, 3, 2), "F", date(2021, 5, 6), "T")

# PS3.3 table A.3-1 (CT Image IOD), mandatory modules: type 1 must have a value, type 2 must be present
TYPE_1 = {
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleIntercept", "RescaleSlope", "RescaleType"),
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelData"),
}
TYPE_2 = {
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    *("AccessionNumber", "SeriesNumber", "PositionReferenceIndicator", "Manufacturer", "InstanceNumber", "SliceThickness", "KVP"),
    *("AcquisitionNumber", "PatientPosition"),
}


@pytest.fixture(scope="module")
def phantom():
    return make_phantom("UIP", seed=2, body=1, grid_mm=5.0)


def read(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def height(ds):
    """Position along the slice normal."""
    row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    return float(np.dot(np.cross(row, column), np.array(ds.ImagePositionPatient, float)))


@pytest.mark.parametrize("name", SCANNERS)
def test_every_scanner_reads_back_voxel_for_voxel(tmp_path, phantom, name):
    scanner = SCANNERS[name].at(4.0)
    scanned = scan(phantom, scanner, seed=1)
    write_series(tmp_path, scanned, scanner, WHO, shuffled=True)
    files = sorted(read(tmp_path), key=height, reverse=True)  # head to feet
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in files])
    assert np.array_equal(hu, scanned.hu)
    assert np.allclose(-np.diff([height(ds) for ds in files]), scanned.spacing_mm[0], atol=1e-3)
    first = files[0]
    assert float(first.RescaleIntercept) == scanner.intercept
    assert first.ConvolutionKernel == scanner.kernel_name
    assert ("PixelPaddingValue" in first) == (scanner.padding is not None)
    if scanner.padding is not None:
        assert first.PixelPaddingValue + first.RescaleIntercept == scanner.padding


def test_attributes_of_the_ct_image_are_complete_and_valid(tmp_path, phantom):
    scanner = SCANNERS["A"].at(4.0)
    write_series(tmp_path, scan(phantom, scanner, seed=1), scanner, WHO)
    files = read(tmp_path)
    for ds in files:
        assert [name for name in TYPE_1 if ds.get(name) in (None, "", [])] == []
        assert [name for name in TYPE_2 if name not in ds] == []
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.SOPInstanceUID.is_valid
        assert list(ds.keys()) == sorted(ds.keys())
    assert len({ds.SOPInstanceUID for ds in files}) == len(files)
    assert len({ds.SeriesInstanceUID for ds in files}) == 1
    assert {ds.StudyDate for ds in files} == {"20210506"}
    assert {ds.PatientAge for ds in files} == {"071Y"}
    assert "PHANTOM" in files[0].PatientID


def test_shuffled_instance_numbers_do_not_follow_space(tmp_path, phantom):
    scanner = SCANNERS["A"].at(4.0)
    for shuffled in (False, True):
        write_series(tmp_path / str(shuffled), scan(phantom, scanner, seed=1), scanner, WHO, shuffled=shuffled)
        heights = [height(ds) for ds in read(tmp_path / str(shuffled))]
        assert (heights == sorted(heights, reverse=True)) != shuffled


def test_a_prone_series_holds_the_same_patient_turned_over(tmp_path, phantom):
    scanner = SCANNERS["A"].at(4.0)
    scanned = scan(phantom, scanner, seed=1)
    write_series(tmp_path / "supine", scanned, scanner, WHO)
    write_series(tmp_path / "prone", scanned, scanner, WHO, number=2, prone=True)
    supine, prone = read(tmp_path / "supine")[5], read(tmp_path / "prone")[5]
    assert (supine.PatientPosition, prone.PatientPosition) == ("HFS", "HFP")
    assert supine.SeriesInstanceUID != prone.SeriesInstanceUID
    assert supine.StudyInstanceUID == prone.StudyInstanceUID

    def value_at(ds, x_mm, y_mm):
        row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        away = np.array([x_mm, y_mm, float(ds.ImagePositionPatient[2])]) - np.array(ds.ImagePositionPatient, float)
        across, down = round(away @ row / ds.PixelSpacing[1]), round(away @ column / ds.PixelSpacing[0])
        return ds.pixel_array[down, across]

    _, y_mm, x_mm = scanned.axes_mm()
    for y, x in ((10, 20), (30, 60), (45, 15)):
        assert value_at(supine, x_mm[x], y_mm[y]) == value_at(prone, x_mm[x], y_mm[y])


def test_a_corrupt_series_has_one_short_file(tmp_path, phantom):
    scanner = replace(SCANNERS["A"].at(4.0), noise_hu=0.0)
    write_series(tmp_path, scan(phantom, scanner, seed=1), scanner, WHO, corrupt=True)
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert sum(size < 0.8 * max(sizes) for size in sizes) == 1


def test_the_same_scan_gives_the_same_bytes(tmp_path, phantom):
    scanner = SCANNERS["B"].at(4.0)
    for name in ("one", "two"):
        write_series(tmp_path / name, scan(phantom, scanner, seed=1), scanner, WHO)
    one, two = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("one", "two"))
    assert one == two
