"""Arrays on which the radiomics families are held to recorded values. Needs numpy only: the reference's environment runs it too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """One array: HU, mask, voxel size (z, y, x), and whether neighbours are looked for within a slice only."""

    name: str
    hu: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    bin_width_hu: float = 25.0
    flat: bool = False


def _smooth(shape: tuple[int, int, int], seed: int) -> NDArray[np.float64]:
    field = np.random.default_rng(seed).normal(size=shape)
    for axis in range(3):
        field = field + np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return field


def _ball(shape: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    return sum(axis**2 for axis in axes) < radius**2


def cases() -> Iterator[Case]:
    random = np.random.default_rng(7)
    noise = random.normal(-700, 120, (9, 10, 11)).round().astype(np.float32)
    yield Case("noise in a mask of noise", noise, random.random(noise.shape) < 0.6, (2.0, 1.0, 0.7))
    shape = (20, 24, 26)
    smooth = (-750 + 30 * _smooth(shape, 11)).astype(np.float32)
    yield Case("smooth ball", smooth, _ball(shape, 0.92), (1.5, 0.8, 0.8))
    yield Case("smooth ball, within slices, wide bins", smooth, _ball(shape, 0.92), (5.0, 0.8, 0.8), 60.0, flat=True)
    slab = np.zeros(shape, bool)
    slab[7, 5:20, 4:21] = True
    yield Case("one slice", smooth, slab, (5.0, 0.8, 0.8))
    disease = np.where(_ball(shape, 0.5), -150.0 + 40 * _smooth(shape, 12) / 3, -860 + 25 * _smooth(shape, 13) / 3)
    halves = _ball(shape, 0.95)
    halves[:, :, 12:14] = False
    yield Case("two halves with dense disease", disease.astype(np.float32), halves, (2.0, 2.0, 2.0), 40.0)
    yield Case("checkerboard", (np.indices((6, 6, 6)).sum(0) % 2 * 100.0 - 800).astype(np.float32), np.ones((6, 6, 6), bool), (1.0, 1.0, 1.0))
