"""Descriptors of slices: LBP and HOG against scikit-image on whole pictures, Gabor on planted waves, SIFT words under rotation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from skimage.feature import hog as skimage_hog
from skimage.feature import local_binary_pattern
from skimage.transform import rotate

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features.gabor import ORIENTATIONS, WAVELENGTHS_MM, gabor
from client.features.hog import hog
from client.features.lbp import lbp
from client.features.sift import dictionary, keypoints, sift, textures
from client.features.slices import HIGHEST_HU, LOWEST_HU, lung_slices, windowed
from tests.client.features.chests import chest, texture


def slab(picture: np.ndarray, spacing_mm: tuple[float, float, float] = (5.0, 1.0, 1.0)) -> Prepared:
    """One slice that is lung all over."""
    return Prepared(Volume(picture[None].astype(np.float32), spacing_mm), np.ones((1, *picture.shape), np.uint8))


def wave(wavelength_mm: float, degrees: float, size: int = 120) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    turn = np.radians(degrees)
    return -800 + 100 * np.cos(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / wavelength_mm)


def test_slices_lie_at_even_steps() -> None:
    prepared = chest()
    assert prepared.mask is not None
    height = np.flatnonzero(prepared.mask.any(axis=(1, 2)))
    assert len(list(lung_slices(prepared, "whole", 4))) == 4
    assert len(list(lung_slices(prepared, "whole", 1000))) == len(height)


def test_lbp_is_scikit_images() -> None:
    picture = np.rint(-800 + 90 * texture((1, 40, 50), 5)[0])
    found = lbp(slab(picture))
    for points, radius in ((8, 1), (16, 2)):
        codes = local_binary_pattern(picture.astype(int), points, radius, method="uniform")
        inner = codes[radius + 1 : -radius - 1, radius + 1 : -radius - 1].astype(int)
        shares = np.bincount(inner.ravel(), minlength=points + 2) / inner.size
        assert [v for name, v in found.items() if name.startswith(f"lbp{points}_")] == pytest.approx(shares.tolist(), abs=1e-12)


def test_lbp_does_not_see_a_rising_function() -> None:
    prepared = slab(np.rint(-800 + 90 * texture((1, 60, 60), 4)[0]))
    louder = prepared.with_image(dataclasses.replace(prepared.volume, hu=2 * prepared.volume.hu + 100), is_hu=True)
    found = lbp(prepared)
    assert lbp(louder) == pytest.approx(found)
    assert sum(v for name, v in found.items() if name.startswith("lbp8")) == pytest.approx(1.0)


def test_hog_is_scikit_images_and_mirrors() -> None:
    picture = -700 + 90 * texture((1, 64, 64), 6)[0]
    found = hog(slab(picture))
    blocks = skimage_hog(windowed(picture), 9, (8, 8), (2, 2), "L2-Hys", feature_vector=False).reshape(-1, 9)
    assert list(found.values()) == pytest.approx([*blocks.mean(axis=0), *blocks.std(axis=0)], rel=1e-6)  # HU are single precision
    turned = list(hog(slab(picture[::-1, ::-1])).values())  # half a turn leaves unsigned gradients as they are
    assert turned == pytest.approx(list(found.values()), abs=1e-3)


def test_a_quarter_turn_permutes_the_orientations_of_hog(monkeypatch: pytest.MonkeyPatch) -> None:
    # A quarter turn moves nine bins by four and a half, eighteen by nine: an even number is permuted, and the nine go to the two neighbours.
    picture = -700 + 90 * texture((1, 64, 64), 6)[0]
    for orientations in (18, 8):
        monkeypatch.setitem(hog.__globals__, "ORIENTATIONS", orientations)
        found, turned = (np.array(list(hog(slab(one)).values())).reshape(2, orientations) for one in (picture, np.rot90(picture).copy()))
        assert turned == pytest.approx(np.roll(found, orientations // 2, axis=1), abs=1e-5)  # HU are single precision
        assert np.abs(turned - found).max() > 0.01
    monkeypatch.setitem(hog.__globals__, "ORIENTATIONS", 9)
    for degrees, bin, beside in ((5.0, 0, 4), (15.0, 0, 5), (65.0, 3, 7), (75.0, 3, 8)):
        upright, turned = (list(hog(slab(wave(10.0, angle))).values())[:9] for angle in (degrees, degrees + 90))
        assert (int(np.argmax(upright)), int(np.argmax(turned))) == (bin, beside)


def test_a_wave_answers_to_its_own_filter() -> None:
    for w, wavelength in enumerate(WAVELENGTHS_MM):
        for turn in range(ORIENTATIONS):
            found = gabor(slab(wave(wavelength, 180 / ORIENTATIONS * turn)))
            means = [value for name, value in found.items() if name.endswith("_mean_hu")]
            assert int(np.argmax(means)) == w * ORIENTATIONS + turn
            assert max(means) == pytest.approx(100, rel=0.25)  # less at the border of the lung


def test_a_wave_too_short_for_the_grid_answers_nothing() -> None:
    found = gabor(slab(wave(8.0, 0.0, 60), (5.0, 3.0, 3.0)))
    assert {value for name, value in found.items() if name.startswith("gabor_5mm")} == {0.0}


def test_words_are_those_of_a_turned_picture_and_not_of_another() -> None:
    pictures = [LOWEST_HU + (HIGHEST_HU - LOWEST_HU) * picture for picture in textures()]
    nets, cysts = (np.array(list(sift(slab(pictures[k])).values())[1:]) for k in (6, 7))
    turned = np.array(list(sift(slab(np.rot90(pictures[6]).copy())).values())[1:])
    assert nets.sum() == pytest.approx(1.0)
    assert np.abs(nets - turned).sum() < 0.5 * np.abs(nets - cysts).sum()


@pytest.mark.parametrize("number", [2, 6, 7])
def test_keypoints_are_found_again_in_a_picture_turned_by_fifteen_degrees(number: int) -> None:
    picture = textures()[number]
    turned = np.clip(rotate(picture, 15, order=3, mode="reflect"), 0, 1)
    middle = (picture.shape[0] - 1) / 2
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    disc = np.hypot(y - middle, x - middle) < 0.42 * picture.shape[0]  # what no corner cuts off
    (places, own), (others, theirs) = keypoints(picture, disc), keypoints(turned, disc)
    matched = others[((own[:, None] - theirs[None]) ** 2).sum(axis=2).argmin(axis=1)]

    def recall(degrees: float) -> float:
        """Share of all keypoints whose nearest descriptor lies where the turn has moved them, within 3 pixels."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rows, columns = (places - middle).T
        there = middle + np.stack([rows * cos - columns * sin, rows * sin + columns * cos], axis=1)
        return float((np.linalg.norm(matched - there, axis=1) <= 3).mean())

    assert len(places) > 50 and recall(15) >= 0.8
    assert max(recall(0), recall(-15)) < 0.2


def test_the_dictionary_is_the_same_again() -> None:
    before = dictionary(16).copy()
    dictionary.cache_clear()
    assert np.array_equal(dictionary(16), before) and before.shape == (16, 128)
    assert len(sift(chest(), words=16)) == 17


def test_a_lung_without_any_edge_has_no_words() -> None:
    found = sift(slab(np.full((40, 40), -800.0)))
    assert set(found.values()) == {0.0}
