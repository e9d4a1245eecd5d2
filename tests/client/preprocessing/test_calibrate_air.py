"""The offset of the scale, by air: found on every scanner of the phantom, whatever the padding, and never guessed."""

from __future__ import annotations

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.dicom.header import read_headers
from client.dicom.read import read_series
from client.dicom.scan import group, list_files
from client.preprocessing.calibrate_air import calibrate_air, measure_air
from shared_models.core.errors import BadStudy
from sim.phantom.patient import make_phantom
from sim.scanner.scanner import SCANNERS, scan
from tests.client.real_data import needs_real_data, real


def chest(shift: float = 0.0, *, padding: float | None = None, noise: float = 30.0) -> Volume:
    """Soft tissue with a lung of emphysema in air; with padding outside a circle."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:120, :120]
    away = np.hypot(y - 59.5, x - 59.5)
    plane = np.where(away < 40, 40.0, -1000.0)
    plane[np.hypot(y - 59.5, x - 59.5) < 20] = -960.0
    hu = np.maximum(plane + shift + rng.normal(0, noise, (3, *plane.shape)), -1024.0)
    if padding is not None:
        hu[:, away > 56] = padding
    return Volume(hu.astype(np.float32), (5.0, 2.0, 2.0))


@pytest.mark.parametrize("shift", [-20.0, 0.0, 15.0, 25.0])
@pytest.mark.parametrize("padding", [None, -1000.0, -1024.0, -2000.0])
def test_the_offset_is_found_beside_padding_and_emphysema(shift: float, padding: float | None) -> None:
    volume = chest(shift, padding=padding)
    assert measure_air(volume) == pytest.approx(-1000 + shift, abs=2)
    moved = calibrate_air(Prepared(volume)).volume.hu
    np.testing.assert_allclose(moved, volume.hu - shift, atol=2)


@pytest.mark.parametrize("shift", [-35.0, -60.0])
@pytest.mark.parametrize("noise", [10.0, 30.0])
def test_air_on_the_floor_of_the_file_is_no_measurement(shift: float, noise: float) -> None:
    assert np.isnan(measure_air(chest(shift, noise=noise)))


def test_emphysema_that_a_narrow_view_cuts_is_not_taken_for_air() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(40, 20, (3, 120, 120))
    hu[:, 30:90, :50] = rng.normal(-950, 25, (3, 60, 50))
    with pytest.raises(BadStudy, match="air outside"):
        calibrate_air(Prepared(Volume(hu.astype(np.float32), (5.0, 2.0, 2.0))))


def test_clothing_and_couch_are_not_air() -> None:
    volume = chest(-8.0)
    hu = volume.hu.copy()
    hu[:, 90:100] += 40  # a sheet; windows of it and of air alike
    hu[:, :, 8:14] += 60
    assert measure_air(Volume(hu, volume.spacing_mm)) == pytest.approx(-1008, abs=2.5)


def test_what_is_no_drift_is_not_believed() -> None:
    with pytest.raises(BadStudy) as refused:
        calibrate_air(Prepared(chest(80.0)))
    assert (refused.value.reason, refused.value.value) == ("NO_AIR", -920)
    assert calibrate_air(Prepared(chest(80.0)), most_hu=90).volume.hu[:, :5].mean() == pytest.approx(-1000, abs=2)


@pytest.mark.parametrize("name", ["cropped", "padded"])
def test_without_air_around_nothing_is_guessed(name: str) -> None:
    volume = chest()
    hu = volume.hu[:, 35:85, 35:85] if name == "cropped" else chest(padding=-1024.0, noise=0.0).hu[:, 18:102, 18:102]
    if name == "padded":
        hu = np.where(hu < -990, np.float32(-1024), hu)
    assert np.isnan(measure_air(Volume(np.ascontiguousarray(hu), (5.0, 2.0, 2.0))))
    with pytest.raises(BadStudy, match="air outside"):
        calibrate_air(Prepared(Volume(np.ascontiguousarray(hu), (5.0, 2.0, 2.0))))


@pytest.mark.parametrize("name", sorted(SCANNERS))
def test_every_scanner_of_the_phantom_tells_its_offset(name: str) -> None:
    scanner = SCANNERS[name].at(3.0)
    scanned = scan(make_phantom("normal", seed=1, grid_mm=4.0), scanner, seed=1)
    volume = Volume(np.maximum(scanned.hu, -1024).astype(np.float32), scanned.spacing_mm)
    assert measure_air(volume) == pytest.approx(-1000 + scanner.hu_shift, abs=4)  # a sharp kernel undershoots beside skin


@needs_real_data
def test_real_scans_of_one_patient_in_two_kernels_read_air_alike() -> None:
    series, _ = group(read_headers(list_files(real("lung_pet_ct_dx"))))
    assert [measure_air(read_series(one).volume) for one in series] == pytest.approx([-1000, -1000], abs=2)
