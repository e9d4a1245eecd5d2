"""The parts behind region growing, the level sets and the clusters: on shapes and noise whose answer is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from client.cases.volume import Volume
from client.segmentation.enfcm import enfcm_image
from client.segmentation.fgfcm import fgfcm_image
from client.segmentation.frfcm import frfcm_image, frfcm_labels
from client.segmentation.fuzzy_cmeans import clustered, nearest_cluster
from client.segmentation.level_set import chan_vese_contour, drlse_contour
from client.segmentation.region_growing import grow, region_growing
from sim.phantom.patient import make_phantom
from tests.client.dicom_factory import chest

Y, X = np.mgrid[:64, :64]
AWAY = np.hypot(Y - 31, X - 33)[None]
DISC = AWAY <= 16


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("radius", [8, 24])
def test_both_level_sets_reach_a_disc_from_inside_and_from_outside(radius: int) -> None:
    rng = np.random.default_rng(0)
    image = (np.where(DISC, 0.2, 0.8) + rng.normal(0, 0.02, DISC.shape)).astype(np.float32)
    start = radius >= AWAY
    found = chan_vese_contour(image, np.where(start, -1, 1).astype(np.float32), steps=200) < 0
    assert overlap(found, DISC) >= 0.9
    outside = radius > 16
    phi = np.where(start, -2, 2).astype(np.float32)
    found = drlse_contour(image * 255, phi, balloon=1.5 if outside else -1.5, step=5.0, steps=150) < 0
    assert overlap(found, DISC) >= 0.9


def test_chan_vese_smooths_what_its_length_costs() -> None:
    rng = np.random.default_rng(1)
    image = (np.where(DISC, 0.2, 0.8) + rng.normal(0, 0.25, DISC.shape)).astype(np.float32)
    start = np.where(image < 0.5, -1, 1).astype(np.float32)
    rough, smooth = (chan_vese_contour(image, start, length=length, steps=100) < 0 for length in (0.0, 0.5))
    assert overlap(smooth, DISC) > overlap(rough, DISC) + 0.05


def test_a_region_does_not_leak_into_a_connected_windpipe() -> None:
    hu = chest().astype(np.float32)
    hu[22:24, 26:30, 24:40] = np.minimum(hu[22:24, 26:30, 24:40], -950)  # bronchi that join both lungs to the windpipe
    mask = region_growing(Volume(hu, (5.0, 5.0, 5.0)))
    assert (hu[26:, 27:29, 31:33] < -900).all() and (mask[26:, 27:29, 31:33] == 0).all()


def test_a_sudden_leak_is_taken_back() -> None:
    hu = np.full((1, 20, 60), 40, np.float32)
    hu[0, 5:15, 2:22] = -850 + 10 * np.sin(np.arange(20))
    hu[0, 5:15, 22] = -780
    hu[0, 2:18, 23:58] = -760
    options = {"spread": 2.5, "below_hu": -400.0, "rounds": 20}
    held = grow(hu, (0, 10, 10), (5.0, 2.0, 2.0), most_growth=0.3, **options)
    assert not held[0, :, 23:].any() and held[0, 5:15, 4:20].mean() > 0.9


@functools.cache
def ground_glass() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lung with ground glass and 60 HU of noise; where the lung is; where the ground glass is."""
    phantom = make_phantom("NSIP", seed=2, grid_mm=3.0, body=1, extents={"ggo": 25.0})
    z = slice(30, 62, 2)
    noisy = phantom.hu[z] + np.random.default_rng(0).normal(0, 60, phantom.hu[z].shape)
    return noisy.astype(np.float32), phantom.lung[z] > 0, phantom.labels[z] == 1


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_enhanced_clusters_stand_noise_that_plain_ones_do_not() -> None:
    noisy, lung, glass = ground_glass()

    def score(labels: np.ndarray) -> float:
        return dice((labels == 1) & lung, glass)

    filled = np.where(lung, noisy, np.float32(noisy[lung].mean()))  # the wall is no class of the lung, and must not bleed into it
    plain = score(nearest_cluster(noisy, clustered(noisy[lung], 2)))
    for image in (enfcm_image(filled), fgfcm_image(filled)):
        assert score(nearest_cluster(image, clustered(image[lung], 2))) >= plain + 0.05
    assert score(frfcm_labels(filled, clusters=2, inside=lung)) >= plain + 0.05


def test_without_mixing_the_enhanced_image_is_the_image() -> None:
    hu = chest()[:3].astype(np.float32)
    np.testing.assert_array_equal(enfcm_image(hu, mixing=0.0), hu)


def test_weighted_mean_equals_the_obvious_way() -> None:
    hu = np.random.default_rng(3).normal(0, 50, (2, 6, 7)).astype(np.float32)
    found = fgfcm_image(hu)
    for z, y, x in ((0, 2, 3), (1, 4, 5), (0, 1, 1)):
        around = [hu[z, y + b, x + a] for b in (-1, 0, 1) for a in (-1, 0, 1) if (a, b) != (0, 0)]
        spread = np.mean([(v - hu[z, y, x]) ** 2 for v in around])
        weight = [np.exp(-1 / 3) * np.exp(-((v - hu[z, y, x]) ** 2) / (6 * spread)) for v in around]
        assert found[z, y, x] == pytest.approx(np.dot(weight, around) / np.sum(weight), abs=1e-3)


def test_reconstruction_equals_the_library() -> None:
    from skimage.morphology import dilation, disk, erosion, reconstruction

    hu = chest()[10:12].astype(np.float32)
    for slice_hu, found in zip(hu, frfcm_image(hu), strict=True):
        opened = reconstruction(erosion(slice_hu, disk(1)), slice_hu, footprint=disk(1))
        closed = reconstruction(dilation(opened, disk(1)), opened, method="erosion", footprint=disk(1))
        assert np.mean(np.abs(found - closed) > 1e-3) < 0.01
