"""The threshold segmenter on chests whose lungs are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from client.cases.volume import Volume
from client.segmentation import SEGMENTERS
from client.segmentation.sides import part
from client.segmentation.threshold import threshold
from shared_models.core.errors import BadStudy
from tests.client.dicom_factory import chest

STEP = (5.0, 5.0, 5.0)


def truth(slices: int = 40, size: int = 64, step_mm: float = 5.0, pixel_mm: float = 5.0) -> np.ndarray:
    z, y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in ((slices, step_mm), (size, pixel_mm), (size, pixel_mm))), indexing="ij")
    out = np.zeros(z.shape, np.uint8)
    for label, (centre, width) in enumerate(((-65, 52), (65, 44)), start=1):
        out[((x - centre) / width) ** 2 + (y / 75) ** 2 + (z / 85) ** 2 < 1] = label
    return out


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize("name", ["threshold", "whole_lung"])
def test_normal_lungs(name: str) -> None:
    mask = SEGMENTERS[name](Volume(chest().astype(np.float32), STEP))
    for side in (1, 2):
        assert dice(mask == side, truth() == side) > 0.98
    assert mask.dtype == np.uint8 and mask.shape == (40, 64, 64)


def test_fine_grid_equals_coarse_grid() -> None:
    """Above 1.6 mm every voxel is used; below, components come from a thinned grid. Both find the same lung."""
    fine = chest(40, 320, step_mm=5.0, pixel_mm=1.0)
    mask = threshold(Volume(fine.astype(np.float32), (5.0, 0.7, 0.7)))  # 0.7 mm: every second pixel
    assert dice(mask > 0, truth(40, 320, 5.0, 1.0) > 0) > 0.99
    assert dice(mask == 1, truth(40, 320, 5.0, 1.0) == 1) > 0.99


def test_windpipe_is_not_lung() -> None:
    hu = chest().astype(np.float32)
    hu[22:24, 26:30, 24:40] = np.minimum(hu[22:24, 26:30, 24:40], -950)  # bronchi that join both lungs to the windpipe
    mask = threshold(Volume(hu, STEP))
    assert (hu[26:, 27:29, 31:33] < -900).all() and (mask[26:, 27:29, 31:33] == 0).all()
    assert dice(mask > 0, truth() > 0) > 0.95


def test_lungs_that_touch_are_parted() -> None:
    lungs = truth()
    lungs[18:22, 30:33, 29:34] = 1
    sides = part(lungs > 0, STEP, 31.5)
    assert float((sides[truth() == 1] == 1).mean()) > 0.99 and float((sides[truth() == 2] == 2).mean()) > 0.99
    assert (sides > 0).sum() == (lungs > 0).sum()


def test_closing_brings_back_a_vessel() -> None:
    hu = chest().astype(np.float32)
    hu[:, 31, 12:26] = np.where(hu[:, 31, 12:26] < -700, 40, hu[:, 31, 12:26])
    vessel = np.zeros(hu.shape, bool)
    vessel[12:28, 31, 14:24] = True
    assert (threshold(Volume(hu, STEP), close_mm=0)[vessel] > 0).mean() == 0
    assert (threshold(Volume(hu, STEP), close_mm=12)[vessel] > 0).mean() > 0.9


def test_leak_in_one_slice_does_not_empty_the_lung() -> None:
    hu = chest().astype(np.float32)
    hu[20, 32, :20] = -1000  # a hole in the chest wall
    mask = threshold(Volume(hu, STEP))
    assert dice(mask[20] > 0, truth()[20] > 0) > 0.9 and dice(mask > 0, truth() > 0) > 0.95


def test_one_lung() -> None:
    hu = chest().astype(np.float32)
    hu[truth() == 2] = 40
    mask = threshold(Volume(hu, STEP))
    assert dice(mask == 1, truth() == 1) > 0.97 and (mask == 2).sum() < 0.02 * (mask == 1).sum()


@pytest.mark.parametrize("fill", [40.0, -1000.0])
def test_no_lung(fill: float) -> None:
    with pytest.raises(BadStudy) as caught:
        threshold(Volume(np.full((20, 32, 32), fill, np.float32), STEP))
    assert caught.value.reason == "NO_LUNG"
