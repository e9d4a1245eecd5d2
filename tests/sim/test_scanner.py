"""The scanner: kernels differ in noise and texture, geometry holds, drift and padding are what the preset says."""

from dataclasses import replace

import numpy as np
import pytest

from sim.phantom.patient import Phantom, make_phantom
from sim.scanner.scanner import SCANNERS, at_scan, scan


@pytest.fixture(scope="module")
def normal():
    return make_phantom("normal", seed=2, body=1, grid_mm=3.0)


def water(shape=(30, 88, 126), hu=0.0):
    grid_mm = 2.5
    return Phantom("normal", np.full(shape, hu, np.float32), np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), (grid_mm,) * 3)


@pytest.mark.parametrize("name", SCANNERS)
def test_noise_of_water_has_the_mean_and_deviation_of_the_preset(name):
    scanner = replace(SCANNERS[name].at(3.5), padding=None)
    hu = scan(water(), scanner, seed=1).hu[:, 10:-10, 10:-10]
    assert hu.mean() == pytest.approx(scanner.hu_shift, abs=1.0)
    assert hu.std() == pytest.approx(scanner.noise_hu, rel=0.05)


def test_soft_noise_is_smooth_and_sharp_noise_is_grain():
    neighbours = {}
    for name in ("A", "B"):
        noise = scan(water(), replace(SCANNERS[name].at(3.5), padding=None), seed=1).hu.astype(float)
        neighbours[name] = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert neighbours["A"] > 0.3
    assert neighbours["B"] < 0.0


def test_kernel_moves_low_attenuation_area_but_hardly_the_mean(normal):
    low, mean = {}, {}
    for name in ("A", "B"):
        scanned = scan(normal, SCANNERS[name].at(3.5), seed=3)
        hu = scanned.hu[at_scan(normal.lung, normal, scanned) > 0]
        low[name], mean[name] = 100 * np.mean(hu < -950), hu.mean()
    assert low["A"] < 0.5
    assert 3 < low["B"] < 16
    assert abs(mean["A"] - mean["B"]) < 30
    assert -840 < mean["A"] < -790


def test_slices_average_over_their_thickness():
    ramp = water()
    ramp.hu[:] = np.arange(len(ramp.hu), dtype=np.float32)[:, None, None] * 10
    scanner = replace(SCANNERS["A"], pixel_mm=5.0, thickness_mm=5.0, spacing_mm=5.0, noise_hu=0.0)
    scanned = scan(ramp, scanner, seed=0)
    at_voxels = scanned.axes_mm()[0] / 2.5 - 0.5
    assert np.abs(scanned.hu[:, 20, 30] - 10 * at_voxels).max() <= 1.0


def test_a_scan_keeps_volume_and_place_of_the_lung(normal):
    for name in ("A", "C", "D"):
        scanned = scan(normal, SCANNERS[name].at(3.5), seed=3)
        lung = at_scan(normal.lung, normal, scanned)
        assert np.count_nonzero(lung) * np.prod(scanned.spacing_mm) / 1000 == pytest.approx(normal.lung_ml, rel=0.03)
        assert scanned.hu[lung > 0].mean() < -700
        assert np.count_nonzero(lung[..., : lung.shape[2] // 2] == 2) == 0, "the right lung is on the left side of the image"


def test_scanners_differ_in_slices():
    thickness = {name: scanner.at(3.5).thickness_mm for name, scanner in SCANNERS.items()}
    assert thickness["A"] == pytest.approx(5.0)
    assert thickness["C"] > thickness["A"]
    assert SCANNERS["D"].at(3.5).spacing_mm == pytest.approx(10.0)
    assert SCANNERS["A"].at(1.0) == SCANNERS["A"]


def test_padding_fills_the_corners_and_never_the_patient(normal):
    scanned = scan(normal, SCANNERS["B"].at(3.5), seed=3)
    assert np.all(scanned.hu[:, 0, 0] == -3024)
    assert not np.any(scanned.hu[at_scan(normal.lung, normal, scanned) > 0] == -3024)
    inside = scanned.hu[scanned.hu != -3024]
    assert inside.min() >= -1024
    assert inside.max() <= 3071


def test_same_seed_same_pixels(normal):
    a, b, c = (scan(normal, SCANNERS["E"].at(3.5), seed=seed).hu.tobytes() for seed in (1, 1, 2))
    assert a == b
    assert a != c
