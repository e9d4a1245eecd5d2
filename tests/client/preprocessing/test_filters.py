"""Filters against the slow obvious way and the libraries' own, and doing what the literature promises of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from skimage.exposure import equalize_adapthist

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing import STEPS
from client.preprocessing.clahe import equalise
from client.preprocessing.median import median_plane
from client.preprocessing.wiener import local_moments


def study(plane: np.ndarray) -> Prepared:
    return Prepared(Volume(np.asarray(plane, np.float32)[None], (1.0, 0.7, 0.7)))


def taken(name: str, plane: np.ndarray, **knobs: object) -> np.ndarray:
    return STEPS[name](study(plane), **knobs).volume.hu[0]


def lung_like(seed: int = 0, rows: int = 60, columns: int = 70, noise_hu: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (rows, columns)), 4)
    return (-800 + 150 * texture / texture.std() + rng.normal(0, noise_hu, (rows, columns))).astype(np.float32)


def honeycomb(rows: int = 96, columns: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cysts of -965 HU, walls of -10 HU three pixels wide, among as much plain lung; and where the inner parts of both are."""
    y, x = np.mgrid[:rows, :columns]
    wall = ((y % 14 < 3) | (x % 14 < 3)) & (x < columns // 2)
    image = np.where(wall, -10.0, np.where(x < columns // 2, -965.0, -850.0))
    middle = ((y % 14 == 1) | (x % 14 == 1)) & (x < columns // 2 - 3)
    cyst = (y % 14 > 5) & (y % 14 < 12) & (x % 14 > 5) & (x % 14 < 12) & (x < columns // 2)
    return image.astype(np.float32), middle, cyst


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 24), st.integers(1, 24), st.sampled_from([3, 5, 7, 9]), st.integers(0, 9))
def test_median_is_the_median(rows: int, columns: int, size: int, seed: int) -> None:
    plane = np.random.default_rng(seed).integers(-9, 9, (rows, columns)).astype(np.float32)
    np.testing.assert_array_equal(median_plane(plane, size), ndimage.median_filter(plane, size, mode="reflect"))


def test_local_moments_are_those_of_each_window() -> None:
    plane = lung_like(1, 9, 11)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane.astype(float), 2, mode="symmetric"), (5, 5))
    mean, variance = local_moments(plane, 5)
    np.testing.assert_allclose(mean, windows.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(variance, windows.var(axis=(2, 3)), rtol=1e-3)


def test_wiener_is_that_of_scipy_away_from_the_border() -> None:
    plane = lung_like(2)
    found = taken("wiener", plane, size=5, noise_hu=25.0)
    np.testing.assert_allclose(found[2:-2, 2:-2], signal.wiener(plane.astype(float), 5, noise=25.0**2)[2:-2, 2:-2], atol=0.05)


def test_wiener_takes_noise_out_of_flat_regions() -> None:
    noisy = np.random.default_rng(3).normal(-850, 30, (128, 128))
    assert np.mean((taken("wiener", noisy) + 850) ** 2) <= 0.6 * np.mean((noisy + 850) ** 2)


def slow_bilateral(plane: np.ndarray, radius: int, reach: float, contrast: float) -> np.ndarray:
    wide, out = np.pad(plane.astype(float), radius, mode="symmetric"), np.empty(plane.shape)
    offset = np.arange(-radius, radius + 1)
    near = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * reach**2))
    for y, x in np.ndindex(plane.shape):
        window = wide[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        weight = near * np.exp(-((window - plane[y, x]) ** 2) / (2 * contrast**2))
        out[y, x] = (weight * window).sum() / weight.sum()
    return out


def test_bilateral_is_its_definition() -> None:
    plane = lung_like(4, 20, 23)
    found = taken("bilateral", plane, radius=2, reach_pixels=1.5, contrast_hu=60.0)
    np.testing.assert_allclose(found, slow_bilateral(plane, 2, 1.5, 60.0), atol=0.05)


def test_non_local_means_keeps_what_repeats() -> None:
    clean, noisy = honeycomb()[0], honeycomb()[0] + np.random.default_rng(5).normal(0, 20, (96, 96))
    assert np.mean((taken("non_local_means", noisy, noise_hu=20.0) - clean) ** 2) < 0.2 * 20**2


def slow_diffusion(plane: np.ndarray, iterations: int, edge: float, rate: float, rational: bool) -> np.ndarray:
    u = plane.astype(float)
    for _ in range(iterations):
        wide, new = np.pad(u, 1, mode="edge"), u.copy()
        for y, x in np.ndindex(u.shape):
            for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
                d = wide[y + dy, x + dx] - u[y, x]
                new[y, x] += rate * d * (1 / (1 + (d / edge) ** 2) if rational else np.exp(-((d / edge) ** 2)))
        u = new
    return u


@pytest.mark.parametrize("conduction", ["exponential", "rational"])
def test_diffusion_is_its_definition_and_keeps_the_mean(conduction: str) -> None:
    plane = lung_like(6, 12, 15)
    found = taken("anisotropic_diffusion", plane, iterations=4, edge_hu=50.0, rate=0.2, conduction=conduction)
    np.testing.assert_allclose(found, slow_diffusion(plane, 4, 50.0, 0.2, conduction == "rational"), atol=0.02)
    assert abs(float(found.mean()) - float(plane.mean())) < 1e-2


@pytest.mark.parametrize("name", ["anisotropic_diffusion", "bilateral", "median", "non_local_means", "switching_median", "wiener"])
def test_walls_of_honeycombing_keep_their_contrast_at_20_hu_of_noise(name: str) -> None:
    image, wall, cyst = honeycomb()
    noisy = image + np.random.default_rng(7).normal(0, 20, image.shape)
    found = taken(name, noisy)
    assert found[wall].mean() - found[cyst].mean() >= 0.8 * (image[wall].mean() - image[cyst].mean())


@pytest.mark.parametrize("name", ["anisotropic_diffusion", "bilateral", "median", "non_local_means", "wiener"])
def test_noise_falls(name: str) -> None:
    noisy = np.random.default_rng(8).normal(-850, 20, (96, 96))
    assert taken(name, noisy).std() < 0.6 * noisy.std()


class TestSwitchingMedian:
    def peppered(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        clean = np.clip(lung_like(9, 128, 128, noise_hu=8.0), -1000, 200)
        clean[:, :20] = -1024  # air around the patient
        u = np.random.default_rng(10).random(clean.shape)
        return clean, np.where(u < share / 2, -1024, np.where(u > 1 - share / 2, 3071, clean)).astype(np.float32)

    @pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
    def test_it_beats_the_plain_median_by_2_db(self, share: float) -> None:
        clean, noisy = self.peppered(share)
        ours, plain = (np.mean((found - clean) ** 2) for found in (taken("switching_median", noisy), median_plane(noisy, 3)))
        assert 10 * np.log10(plain / ours) >= 2

    def test_without_noise_less_than_a_hundredth_changes(self) -> None:
        clean, noisy = self.peppered(0.0)
        np.testing.assert_array_equal(clean, noisy)
        assert np.mean(taken("switching_median", clean) != clean) < 0.01

    def test_pixels_that_are_no_impulses_stay_to_the_bit(self) -> None:
        _, noisy = self.peppered(0.2)
        inner = (noisy > -1024) & (noisy < 3071)
        np.testing.assert_array_equal(taken("switching_median", noisy)[inner], noisy[inner])

    def test_membership_rises_between_its_thresholds(self) -> None:
        for r, share in ((20, 0), (40, 0), (100, 0.5), (160, 1), (400, 1)):
            plane = np.full((9, 9), -850.0)
            plane[4, 4] = -850 + r
            found = taken("switching_median", plane, high_hu=-850.0 + r)[4, 4]
            assert found == pytest.approx(-850 + r * (1 - share))

    def test_the_window_grows_until_it_holds_something_known(self) -> None:
        plane = np.full((9, 9), -850.0)
        plane[3:6, 3:6] = np.array([[3071, -1024, 3071], [-1024, 3071, -1024], [3071, -1024, 3071]])
        assert (taken("switching_median", plane) == -850).all()


class TestClahe:
    def grey(self, seed: int, rows: int, columns: int) -> np.ndarray:
        unit = np.random.default_rng(seed).beta(2, 5, (rows, columns))
        unit = 0.4 * unit + 0.6 * ndimage.gaussian_filter(unit, 5)
        return ((unit - unit.min()) / np.ptp(unit)).astype(np.float32)

    @pytest.mark.parametrize(("rows", "columns", "tiles", "clip"), [(128, 128, 8, 2.56), (120, 152, 8, 2.56), (101, 133, 4, 5.12), (96, 64, 2, 20)])
    def test_it_is_that_of_scikit_image_to_two_grey_levels(self, rows: int, columns: int, tiles: int, clip: float) -> None:
        unit = self.grey(rows, rows, columns)
        ours = equalise(unit, tiles, clip)
        theirs = 255 * equalize_adapthist(unit, kernel_size=(rows // tiles, columns // tiles), clip_limit=clip / 256)
        ours = (ours - ours.min()) / np.ptp(ours) * 255  # theirs ends with a stretch
        assert np.abs(ours - theirs).max() <= 2

    def test_without_limit_in_one_tile_it_is_plain_equalisation(self) -> None:
        unit = self.grey(1, 80, 90)
        ours = equalise(unit, 1, 256)
        bins = np.rint(np.rint(unit * np.float32(65535)) * (16383 / 65535)).astype(int) // 65
        share = np.cumsum(np.bincount(bins.ravel(), minlength=253)) / unit.size
        np.testing.assert_allclose(ours, 255 * share[bins], atol=1e-3)

    def test_faint_ground_glass_stands_out(self) -> None:
        rng = np.random.default_rng(2)
        y, x = np.mgrid[:256, :256]
        patch = np.hypot(y - 128, x - 128) < 24
        hu = np.where(patch, -700.0, -850.0) + rng.normal(0, 50, patch.shape)  # the spread of lung: texture and noise
        ring = (np.hypot(y - 128, x - 128) < 40) & (np.hypot(y - 128, x - 128) > 28)
        before, after = taken("window", hu), taken("clahe", hu)
        assert after[patch].mean() - after[ring].mean() >= 1.5 * (before[patch].mean() - before[ring].mean())

    def test_inside_one_tile_the_order_of_greys_stays(self) -> None:
        unit = self.grey(3, 64, 64)
        order = np.argsort(unit.ravel(), kind="stable")
        assert (np.diff(equalise(unit, 1, 3).ravel()[order]) >= 0).all()


def test_a_standard_histogram_moves_landmarks_onto_those_of_the_federation() -> None:
    from shared_models.harmonisation.landmarks import PERCENTILES, contribution, finish

    rng = np.random.default_rng(11)
    lungs = [rng.normal(-860 + 15 * i, 60 + 5 * i, (1, 50, 50)).astype(np.float32) for i in range(4)]
    standard = finish([contribution([lung.ravel() for lung in lungs[:1]]), contribution([lung.ravel() for lung in lungs[1:]])])
    for lung in lungs:
        step = STEPS["standardise"](Prepared(Volume(lung, (1, 1, 1)), np.ones(lung.shape, np.uint8)), standard_hu=standard)
        np.testing.assert_allclose(np.percentile(step.volume.hu, PERCENTILES), standard, atol=0.5)
        order = np.argsort(lung.ravel(), kind="stable")
        assert (np.diff(step.volume.hu.ravel()[order]) >= -1e-3).all()


def test_slices_can_be_resampled_alone() -> None:
    gapped = Prepared(Volume(np.random.default_rng(12).normal(-800, 50, (4, 40, 40)).astype(np.float32), (10.0, 0.7, 0.7)))
    fine = STEPS["resample"](gapped, y_mm=1.4, x_mm=1.4)
    assert fine.volume.hu.shape == (4, 20, 20) and fine.volume.spacing_mm == (10.0, 1.4, 1.4)
    np.testing.assert_allclose(fine.volume.hu, gapped.volume.hu.reshape(4, 20, 2, 20, 2).mean(axis=(2, 4)), atol=1e-2)
