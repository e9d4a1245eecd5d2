"""The lung divided by geometry: every voxel in one region, no region empty, nothing moved by spacing or cropping."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from client.segmentation.atlas import REGIONS, atlas, depth_mm, depth_shells, region_names, thirds
from shared_models.core.errors import BadInput
from sim.phantom.template import body_template
from tests.client.segmentation.test_threshold import STEP, truth


def body(number: int) -> tuple[np.ndarray, tuple[float, float, float]]:
    template = body_template(number, 4.0)
    mask = np.zeros(template.tissue.shape, np.uint8)
    mask[template.box] = template.spread(template.side)
    return np.ascontiguousarray(mask[::-1]), (4.0, 4.0, 4.0)


def test_36_regions_cover_the_lung_without_overlap() -> None:
    for mask, spacing in (body(0), body(1), (truth(), STEP)):
        regions = atlas(mask, spacing)
        assert set(np.unique(regions[mask > 0])) == set(range(1, REGIONS + 1)) and not regions[mask == 0].any()
        assert len(region_names()) == len(set(region_names())) == REGIONS
        assert (regions[mask == 1] <= 18).all() and (regions[mask == 2] > 18).all()


def test_a_lung_of_one_litre_still_has_all_regions() -> None:
    small = truth()
    spacing = (3.7, 3.7, 3.7)
    assert 0.9 < (small > 0).sum() * 3.7**3 * 1e-6 < 1.1
    assert len(np.unique(atlas(small, spacing))) == REGIONS + 1


def test_names_say_where_a_region_lies() -> None:
    mask, spacing = body(1)
    regions, depth = atlas(mask, spacing), depth_mm(mask, spacing)
    centre = {name: np.argwhere(regions == k + 1).mean(axis=0) for k, name in enumerate(region_names())}
    for name, (z, y, x) in centre.items():
        side, level, face, shell = name.split("_")
        if side == "right":
            assert x < centre[name.replace("right", "left")][2]
        if level == "lower":
            assert z < centre[name.replace("lower", "upper", 1)][0]
        if face == "front":
            assert y < centre[name.replace("front", "back")][1]
        if shell == "outer":
            inner = region_names().index(name.replace("outer", "inner")) + 1
            assert depth[regions == region_names().index(name) + 1].mean() < depth[regions == inner].mean()


def test_levels_have_equal_volume_and_mirror_swaps_the_sides() -> None:
    mask, spacing = body(1)
    for side in (1, 2):
        counts = np.bincount(thirds(mask, equal="volume")[mask == side], minlength=4)[1:]
        assert counts.min() > 0.9 * counts.max()
    swap = np.array([0, 2, 1], np.uint8)
    mirrored = atlas(swap[mask[:, :, ::-1]], spacing)[:, :, ::-1]
    there = atlas(mask, spacing)
    np.testing.assert_array_equal(mirrored[mask > 0], (there[mask > 0] + 17) % 36 + 1)


def test_cropping_moves_no_region() -> None:
    mask, spacing = body(0)
    padded = np.pad(mask, ((3, 1), (2, 5), (4, 4)))
    np.testing.assert_array_equal(atlas(padded, spacing)[3:-1, 2:-5, 4:-4], atlas(mask, spacing))


def test_depth_equals_the_obvious_way() -> None:
    mask = truth()[5:35:2, 10:50:2, 4:60:2]
    spacing = (10.0, 10.0, 8.0)
    found = depth_mm(mask, spacing)
    for side in (1, 2):
        outside = np.argwhere(np.pad(mask != side, 1, constant_values=True)) * spacing
        inside = np.argwhere(np.pad(mask == side, 1)) * spacing
        slow = np.sqrt(np.square(inside[:, None] - outside[None]).sum(axis=2).min(axis=1)) - 4.0
        np.testing.assert_allclose(found[mask == side], slow, atol=1e-3)


def test_shells_and_thirds_of_height() -> None:
    mask = truth()
    shells = depth_shells(mask, STEP)
    assert set(np.unique(shells[mask > 0])) == {1, 2, 3}
    rim = mask.astype(bool) & ~np.asarray(ndimage.binary_erosion(mask > 0))
    assert (shells[rim] == 1).all()
    heights = thirds(mask)
    assert np.nonzero(heights == 3)[0].min() > np.nonzero(heights == 1)[0].max()
    with pytest.raises(BadInput, match="ascend"):
        depth_shells(mask, STEP, edges_mm=(10.0, 5.0))
    with pytest.raises(BadInput, match="holds lung"):
        atlas(np.zeros((3, 3, 3), np.uint8), STEP)
