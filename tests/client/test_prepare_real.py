"""The whole way on real CT, against volumes and masks made by others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from client.cases.cache import load
from client.cases.identity import Pseudonyms
from client.dicom.header import read_headers
from client.dicom.read import read_series
from client.dicom.scan import group, list_files
from client.prepare import prepare_folder
from client.segmentation.threshold import threshold
from shared_models.core.choices import Choice
from shared_models.experiment import Preparation
from tests.client.real_data import needs_real_data, read_nrrd, real, vector

SECRET = bytes(range(32))
pytestmark = needs_real_data


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_voxels_and_geometry_equal_the_published_volume() -> None:
    series, dismissed = group(read_headers(list_files(real("cip_chest", "ct-64Dicom"))))
    volume = read_series(series[0]).volume
    truth, header = read_nrrd(real("cip_chest", "ct-64.nrrd"))
    assert not dismissed and len(series) == 1
    np.testing.assert_array_equal(volume.hu, truth)
    x, y, z = (vector(v) for v in header["space directions"].split(" "))
    assert volume.direction is not None
    for axis, truth_step in enumerate((z, y, x)):
        np.testing.assert_allclose(volume.direction[axis] * volume.spacing_mm[axis], truth_step, atol=1e-4)
    np.testing.assert_allclose(volume.origin_mm, vector(header["space origin"]), atol=1e-3)


def test_lung_mask_agrees_with_the_published_one_and_knows_its_sides() -> None:
    series, _ = group(read_headers(list_files(real("cip_chest", "ct-64Dicom"))))
    volume = read_series(series[0]).volume
    mask = threshold(volume)
    truth, _ = read_nrrd(real("cip_chest", "wholeLung-64.nrrd"))
    lobes, _ = read_nrrd(real("cip_chest", "lm-64.nrrd"))
    assert dice(mask > 0, truth > 0) >= 0.98
    # the published label map numbers the left lung's regions 9-11 and the right lung's 12-14
    side = np.where((lobes & 255) >= 12, 1, 2)
    both = (mask > 0) & ((lobes & 255) >= 9) & ((lobes & 255) <= 14)
    assert float((mask[both] == side[both]).mean()) > 0.995


def test_two_full_resolution_slices() -> None:
    hu, header = read_nrrd(real("cip_chest", "crop_ct_2slices.nrrd"))
    truth, _ = read_nrrd(real("cip_chest", "crop_ct_2slices_dcnnLungSegmentationLabelmap.nrrd"))
    from client.cases.volume import Volume

    # the crop holds the lungs and little else: frame it with tissue, and make it thick enough to hold a lung's volume
    step = float(vector(header["space directions"].split(" ")[0])[0])
    framed = np.pad(np.repeat(hu, 12, axis=0).astype(np.float32), ((0, 0), (4, 4), (4, 4)), constant_values=40)
    mask = threshold(Volume(framed, (5.0, step, step)))[0, 4:-4, 4:-4]
    assert dice(mask > 0, truth[0] > 0) > 0.95


def test_one_patient_two_kernels(tmp_path: Path) -> None:
    report = prepare_folder(real("lung_pet_ct_dx"), tmp_path / "w", Preparation(segmenter=Choice(name="threshold")), secret=SECRET)
    assert len(report.accepted) == 2 and not report.quarantined
    assert {line["reason"] for line in report.skipped} == {"NOT_DICOM"}
    assert len({line["patient"] for line in report.accepted}) == 1 and len({line["visit"] for line in report.accepted}) == 1
    litres = [line["lung_volume_l"] for line in report.accepted]
    assert all(abs(v / 2.67 - 1) < 0.04 for v in litres) and abs(litres[0] / litres[1] - 1) < 0.015
    by_kernel = {"sharp" if any(f["code"] == "SHARP_KERNEL" for f in line["findings"]) else "soft": line for line in report.accepted}
    assert abs(by_kernel["sharp"]["mean_lung_hu"] - -791) < 10 and abs(by_kernel["soft"]["mean_lung_hu"] - -784) < 10
    assert by_kernel["sharp"]["laa950_percent"] > 2 * by_kernel["soft"]["laa950_percent"]
    # one visit, and of its two series the soft one
    (case,) = report.cohort.cases
    assert len(case.visits) == 1 and case.visits[0].series == by_kernel["soft"]["series"]
    assert case.visits[0].clinical["age"] == 53.0 and case.visits[0].clinical["male"] == 0.0


def test_nothing_identifying_is_written(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    prepare_folder(real("lung_pet_ct_dx"), workspace, Preparation(grid_mm=(8, 4, 4)), secret=SECRET)
    planted = ("A0002", "Lung_Dx", "20070425", "2007", "1.3.6.1.4.1.14519", "62919", "34834", "ThoraxRoutine", "Sensation")
    for path in workspace.rglob("*"):
        if path.is_file() and path.name != "items.csv":
            content = path.read_bytes() + str(path.relative_to(workspace)).encode()
            assert not [word for word in planted if word.encode() in content], path.name
    assert (workspace / "items.csv").stat().st_mode & 0o777 == 0o600
    assert "1-04.dcm" in (workspace / "items.csv").read_text()


def test_prepared_on_the_grid_that_was_asked_for(tmp_path: Path) -> None:
    preparation = Preparation(grid_mm=(4, 3, 3), steps=(Choice(name="crop_lung", margin_mm=12),))
    report = prepare_folder(real("cip_chest", "ct-64Dicom"), tmp_path, preparation, secret=SECRET)
    (visit,) = report.cohort.cases[0].visits
    stored = load(tmp_path / visit.prepared)
    assert stored.prepared.volume.spacing_mm == (4, 3, 3) and stored.prepared.is_hu
    volume_l = float((stored.prepared.mask > 0).sum()) * stored.prepared.volume.voxel_ml / 1000  # pyright: ignore[reportOptionalOperand]
    assert abs(volume_l / visit.features["whole_volume_l"] - 1) < 0.01
    written = json.loads((tmp_path / "report.json").read_text())
    assert list(written) == ["accepted", "skipped", "quarantined", "outcomes"]
    measures = ["lung_volume_l", "mean_lung_hu", "haa_percent", "laa950_percent"]
    keys = ["item", "patient", "visit", "series", *measures, "acquisition", "findings"]
    assert list(written["accepted"][0]) == keys
    assert written["accepted"][0]["patient"] == Pseudonyms(SECRET).patient("123456")
