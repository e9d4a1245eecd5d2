"""The thorax without disease: body wall, ribs, spine, sternum, aorta, heart and two lungs, as smooth shapes on any grid.

Each organ is an implicit function, negative inside; `coverage` turns it into the share of each voxel that the organ fills, so that edges carry
the partial volume of the grid at no extra cost. Numbers are millimetres in a reference body: z runs from the top of the thorax to the feet,
y from front to back, x from the patient's right to left, with (y, x) = (0, 0) in the middle of the chest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadInput
from sim.phantom.fields import Axes, Box, Floats

REGION_MM: Box = ((0.0, 290.0), (-94.0, 94.0), (-138.0, 138.0))
"""Where the lungs of any body lie. Random fields hang on this region, so a seed gives the same patient on every grid."""

AIR, FAT, SOFT, BLOOD, LIVER, BONE = -1000.0, -90.0, 45.0, 40.0, 55.0, 450.0


@dataclass(frozen=True)
class Thorax:
    """Tissues around the lungs and the shape of the lungs, on one grid.

    Parameters
    ----------
    axes_mm : three 1-D arrays
        Voxel centres along z, y, x in millimetres.
    tissue : ndarray of float32, shape (z, y, x)
        HU of everything but the lungs (where a lung will be, it holds the soft tissue that shows when the lung shrinks).
    lung : ndarray of float32, shape (z, y, x)
        Share of each voxel filled by lung, at full inspiration.
    side : ndarray of uint8, shape (z, y, x)
        1 right lung, 2 left lung, 0 where `lung` is below one half.
    above_dome_mm : ndarray of float32, shape (z, y, x)
        Height above the diaphragm, millimetres.
    scale : tuple of float
        Size of this body along (z, y, x) against the reference body.
    grid_mm : float
        Edge of the cubic voxels.
    """

    axes_mm: Axes
    tissue: HU
    lung: Floats
    side: Mask
    above_dome_mm: Floats
    scale: tuple[float, float, float]
    grid_mm: float


def axes_of(axes: Iterable[np.ndarray]) -> Axes:
    """Return three axes as a tuple, so that a type checker counts them too."""
    z, y, x = axes
    return z, y, x


def coverage(shape: np.ndarray) -> Floats:
    """Return the share of each voxel inside the surface ``shape = 0``, from the value and the slope of the function at its centre.

    Parameters
    ----------
    shape : ndarray
        Implicit function, negative inside, sampled at voxel centres; an axis of length 1 stands for a shape that does not change along it.

    Returns
    -------
    ndarray of float32 in [0, 1]

    Examples
    --------
    >>> coverage(np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]] * 2) * 3.0)[0].tolist()  # the surface cuts the middle voxel in half
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    shape = np.asarray(shape, np.float32)
    slope = np.sqrt(sum(np.square(np.gradient(shape, axis=axis)) for axis in range(shape.ndim) if shape.shape[axis] > 1))
    return np.clip(0.5 - shape / np.maximum(slope, 1e-6), 0.0, 1.0).astype(np.float32)


def fill(volume: np.ndarray, share: np.ndarray, hu: float) -> None:
    """Blend `hu` into `volume`, in place, by the share of each voxel that it fills.

    Examples
    --------
    >>> volume = np.array([0.0, 0.0, 0.0])
    >>> fill(volume, np.array([0.0, 0.5, 1.0]), 40.0)
    >>> volume.tolist()
    [0.0, 20.0, 40.0]
    """
    volume += share * (hu - volume)


def make_thorax(body: int, *, grid_mm: float = 2.5) -> Thorax:
    """Build the thorax number `body`; odd numbers are men, even ones women.

    Parameters
    ----------
    body : int
        Seed of size and proportions, zero or more.
    grid_mm : float
        Edge of the cubic voxels, 0.5 to 6 mm.

    Returns
    -------
    Thorax

    Raises
    ------
    BadInput
        A grid too coarse to hold a rib, or too fine for memory.

    Examples
    --------
    >>> thorax = make_thorax(1, grid_mm=6.0)
    >>> bool(3.0 < (thorax.side > 0).sum() * 6.0**3 / 1e6 < 6.5)  # litres
    True
    """
    if not 0.5 <= grid_mm <= 6.0:
        raise BadInput("a phantom grid lies between 0.5 and 6 mm", value=grid_mm, remedy="2.5 is the demonstration's grid")
    rng = np.random.default_rng([body, 0x7402A])
    size = 1.04 if body % 2 else 0.97
    scale = (size * rng.uniform(0.95, 1.05), size * rng.uniform(0.97, 1.03), size * rng.uniform(0.97, 1.03))
    lengths_mm = (270.0 * scale[0], 220.0, 316.0)
    starts_mm = (0.0, -110.0, -158.0)
    along = (start + grid_mm * (np.arange(int(length / grid_mm)) + 0.5) for start, length in zip(starts_mm, lengths_mm, strict=True))
    axes_mm = axes_of(along)
    z, y, x = (axis.astype(np.float32) / s for axis, s in zip(np.ix_(*axes_mm), scale, strict=True))

    muscle = coverage(np.hypot(y / 90, x / 136) - 1)
    heart = coverage(_ellipsoid(z, y, x, centre=(185, -35, 18), radii=(62, 48, 58)))
    aorta = coverage(np.hypot(y - 44, x - 13) - 13) * (z > 95)
    lung, side, above_mm = _lungs(z, y, x)
    lung = lung * (1 - np.maximum(heart, aorta))

    tissue = np.full(heart.shape, AIR, np.float32)
    fill(tissue, coverage(np.hypot(y / 99, x / 144) - 1), FAT)
    fill(tissue, muscle, SOFT)
    fill(tissue, coverage(above_mm) * muscle, LIVER)
    fill(tissue, _ribs(z, y, x), BONE)
    fill(tissue, coverage(np.hypot(y - 72, x) - 14), 250.0)
    fill(tissue, coverage(np.hypot(y - 72, x) - 11), 150.0)
    fill(tissue, coverage(_ellipsoid(z, y, x, centre=(95, -84, 0), radii=(80, 6, 17))), 300.0)
    fill(tissue, np.maximum(heart, aorta), BLOOD)
    return Thorax(axes_mm, tissue, lung, np.where(lung >= 0.5, side, 0).astype(np.uint8), above_mm * scale[0], scale, grid_mm)


def _lungs(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[Floats, Mask, Floats]:
    """Return lung coverage, side (1 right, 2 left) and height above the diaphragm in reference millimetres."""
    height = np.clip((z - 12) / 240, 0, 1)
    apex = np.sqrt(1 - np.square(1 - np.minimum(1, height / 0.14)))
    half_x = 50 * (0.62 + 0.38 * np.minimum(1, height / 0.45)) * apex + 0.1
    half_y = 78 * (0.58 + 0.42 * np.minimum(1, height / 0.40)) * apex + 0.1
    from_axis = np.abs(x) - 68
    shell = (np.abs(from_axis) / half_x) ** 2.3 + (np.abs(y) / half_y) ** 2.3 - 1
    shell = np.minimum(shell, 3.0)  # far outside its value is meaningless, and a steep one would blur the apex
    dome = 252 - 38 * np.exp(-np.square(from_axis / 34) - np.square((y + 8) / 52))
    above_mm = (dome - z).astype(np.float32)
    chest = coverage(np.hypot(y / 84, x / 129) - 1)
    lung = np.minimum(np.minimum(coverage(shell), chest), coverage(-above_mm)) * (z > 12)
    return lung, np.where(x < 0, 1, 2).astype(np.uint8) + np.zeros(lung.shape, np.uint8), above_mm


def _ribs(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> Floats:
    """Twelve pairs of tilted hoops 21 mm apart, between the pleura and the skin; open in front, where ribs are cartilage."""
    outward = (np.hypot(y / 88, x / 133) - 1) * 105
    along = np.mod(z + 0.35 * y + 4, 21) - 10.5
    hoop = np.hypot(outward, along) - 4
    return coverage(hoop) * (y > -70)


def _ellipsoid(z: np.ndarray, y: np.ndarray, x: np.ndarray, *, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    (cz, cy, cx), (rz, ry, rx) = centre, radii
    return np.sqrt(np.square((z - cz) / rz) + np.square((y - cy) / ry) + np.square((x - cx) / rx)) - 1
