"""Regions, depth, vessels and the texture map: against slow ways and planted truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features.densitometry import densitometry, describe_values
from client.features.local_histogram import EDGES_HU, PATTERNS, local_histogram, texture_map
from client.features.pleura import SHELLS, depth_mm
from client.features.regions import ZONES, regions
from client.features.vessels import vessels
from tests.client.features.chests import chest


def test_depth_is_the_distance_to_the_nearest_voxel_outside() -> None:
    mask = np.zeros((6, 9, 10), np.uint8)
    mask[1:5, 1:8, 1:5] = 1
    mask[1:5, 1:8, 5:9] = 2  # the lungs touch, and that is border as well
    mask[2, 4, 3] = 0  # a vessel left out is none
    spacing = (2.0, 1.0, 1.0)
    found = depth_mm(mask, spacing)
    for side in (1, 2):
        lung = mask == side
        closed = lung.copy()
        closed[2, 4, 3] |= side == 1
        outside = np.argwhere(~closed)
        for place in np.argwhere(lung):
            nearest = min(math.dist(place * np.array(spacing), other * np.array(spacing)) for other in outside)
            assert found[tuple(place)] == pytest.approx(nearest - 0.5, abs=1e-5)


@pytest.mark.parametrize("whole_numbers", [True, False])
def test_regions_are_what_their_voxels_say(whole_numbers: bool) -> None:
    prepared = chest(6, whole_numbers=whole_numbers)
    assert prepared.mask is not None
    mask, hu = prepared.mask, prepared.volume.hu
    found = regions(prepared)
    height = np.flatnonzero(mask.any(axis=(1, 2)))
    third = np.minimum(3 * (np.arange(len(mask)) - height[0]) // len(height), 2)[:, None, None]
    depth = depth_mm(mask, prepared.volume.spacing_mm)
    for region, where in {
        "lower_right": (mask == 1) & (third == 0),
        "upper_left": (mask == 2) & (third == 2),
        "peripheral": (mask > 0) & (depth < 5),
        "intermediate_left": (mask == 2) & (depth >= 5) & (depth < 15),
        "central": (mask > 0) & (depth >= 15),
    }.items():
        for name, value in describe_values(hu[where].astype(float), prepared.volume.voxel_ml).items():
            assert found[f"{region}_{name}"] == pytest.approx(value, rel=1e-6, abs=1e-6), (region, name)
    whole = densitometry(prepared)
    for parts in (ZONES, SHELLS):
        assert sum(found[f"{part}_volume_l"] for part in parts) == pytest.approx(whole["whole_volume_l"])
        assert sum(found[f"{part}_mass_g"] for part in parts) == pytest.approx(whole["whole_mass_g"])
    assert found["lower_minus_upper_mld_hu"] == pytest.approx(whole["lower_mld_hu"] - whole["upper_mld_hu"])


def block(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    hu = np.random.default_rng(seed).normal(-850, 20, shape).astype(np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[3:-3, 3:-3, 3:-3] = 1
    return hu, mask


def test_vessels_are_tubes_and_nothing_else() -> None:
    shape = (50, 60, 60)
    _, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    hu, mask = block(shape, 0)
    empty = vessels(Prepared(Volume(hu, (1.0, 1.0, 1.0)), mask))
    assert empty["whole_vessel_ml"] == 0 and math.isnan(empty["small_vessel_percent"])
    wanted_ml = 0.0
    for radius, row, column in ((2.0, 20, 15), (3.0, 40, 20), (4.0, 25, 42)):
        hu = np.maximum(hu, -850 + 890 * np.clip(radius + 0.5 - np.hypot(y - row, x - column), 0, 1)).astype(np.float32)  # with partial volume
        wanted_ml += math.pi * radius**2 * (shape[0] - 12) / 1000  # eroded by 3 mm at either end
    found = vessels(Prepared(Volume(hu, (1.0, 1.0, 1.0)), mask))
    assert found["whole_vessel_ml"] == pytest.approx(wanted_ml, rel=0.2)
    assert found["right_vessel_ml"] == found["whole_vessel_ml"] and math.isnan(found["left_vessel_percent"])
    thirds = sum(found[f"{third}_vessel_ml"] for third in ("lower", "middle", "upper"))
    assert thirds == pytest.approx(found["whole_vessel_ml"])
    plate, _ = block(shape, 1)
    plate[:, 30:33] = 0.0  # a fissure's thickness of tissue, right across
    assert vessels(Prepared(Volume(plate, (1.0, 1.0, 1.0)), mask))["whole_vessel_percent"] < 0.5


def drawn(pattern: str, size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    shares, means, spreads = (np.array(column) for column in zip(*PATTERNS[pattern], strict=True))
    which = random.choice(len(shares), size, p=shares)
    return random.normal(means[which], spreads[which])


def test_planted_textures_are_found_where_they_are() -> None:
    names = list(PATTERNS)
    hu = np.full((20, 40, 20 * len(names)), -1000.0, np.float32)
    mask = np.zeros(hu.shape, bool)
    for number, name in enumerate(names):
        part = (slice(2, 18), slice(2, 38), slice(20 * number + 4, 20 * number + 16))
        hu[part] = drawn(name, 16 * 36 * 12, number).reshape(16, 36, 12)
        mask[part] = True
    where = np.nonzero(mask)[2] // 20
    found = texture_map(hu, mask, (2.0, 2.0, 2.0))
    for number, name in enumerate(names):
        assert np.mean(found[where == number] == number) > 0.95, name


def test_texture_map_is_what_loops_find() -> None:
    random = np.random.default_rng(3)
    hu = random.choice([-960.0, -830.0, -640.0, -300.0, 10.0], (5, 6, 7)) + random.normal(0, 30, (5, 6, 7))
    mask = random.random(hu.shape) < 0.7
    spacing = (3.0, 1.5, 3.0)  # blocks of 1 x 2 x 1 voxels
    level = np.clip(np.digitize(hu, EDGES_HU) - 1, 0, 31)
    wanted = []
    below = {}
    for name, mixture in PATTERNS.items():
        below[name] = [sum(s * 0.5 * (1 + math.erf((edge - m) / sd / math.sqrt(2))) for s, m, sd in mixture) for edge in EDGES_HU[1:-1]] + [1.0]
    for z, y, x in np.argwhere(mask):
        b = y // 2
        window = [
            level[p]
            for p in itertools.product(range(z - 1, z + 2), range(2 * b - 2, 2 * b + 4), range(x - 1, x + 2))
            if all(0 <= c < n for c, n in zip(p, hu.shape, strict=True)) and mask[p]
        ]
        shares = np.cumsum(np.bincount(window, minlength=32)) / len(window)
        wanted.append(min(range(len(PATTERNS)), key=lambda k: np.abs(shares - list(below.values())[k]).sum()))
    assert texture_map(hu, mask, spacing).tolist() == wanted


def test_texture_percentages_add_up() -> None:
    prepared = chest(8)
    found = local_histogram(prepared)
    for before in ("", *(f"{shell}_" for shell in SHELLS)):
        assert sum(found[f"{before}{pattern}_texture_percent"] for pattern in PATTERNS) == pytest.approx(100, abs=0.01)
    assert sum(found[f"{pattern}_texture_ml"] for pattern in PATTERNS) == pytest.approx(1000 * densitometry(prepared)["whole_volume_l"])
    assert found["normal_texture_percent"] > 80
