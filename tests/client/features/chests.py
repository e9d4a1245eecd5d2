"""Small chests for feature tests: two ellipsoid lungs with smooth texture and a few vessels, from a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.cases.volume import Volume

SHAPE = (24, 72, 96)
SPACING_MM = (4.0, 2.5, 2.5)


def lung_labels(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    """Two ellipsoids: 1 the patient's right (low x), 2 the left."""
    z, y, x = (np.linspace(-1, 1, n).reshape(tuple(-1 if a == axis else 1 for a in range(3))) for axis, n in enumerate(shape))
    labels = np.zeros(shape, np.uint8)
    for label, centre in ((1, -0.48), (2, 0.48)):
        labels[(z / 0.9) ** 2 + (y / 0.75) ** 2 + ((x - centre) / 0.38) ** 2 < 1] = label
    return labels


def texture(shape: tuple[int, int, int], seed: int, *, passes: int = 1) -> NDArray[np.float64]:
    """Noise of unit spread, smoothed by [1 1 1] along each axis `passes` times."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis in (0, 1, 2) * passes:
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return noise / noise.std()


def chest(seed: int = 0, *, whole_numbers: bool = True) -> Prepared:
    labels = lung_labels()
    hu = np.where(labels > 0, -820 + 60 * texture(SHAPE, seed), 30.0)
    for y, x in ((30, 25), (40, 20), (36, 70), (28, 76)):  # vessels along z
        hu[4:20, y : y + 2, x : x + 2] = 20.0
    hu = np.rint(hu) if whole_numbers else hu
    return Prepared(Volume(hu.astype(np.float32), SPACING_MM), labels)


def padded(prepared: Prepared, width: int) -> Prepared:
    """The same chest with air and no lung all around it."""
    assert prepared.mask is not None
    hu = np.pad(prepared.volume.hu, width, constant_values=-1000.0)
    return Prepared(Volume(hu, prepared.volume.spacing_mm), np.pad(prepared.mask, width))
