"""From a volume to its lungs on a coarse grid, and from there back to every voxel: what all segmenters share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from client.cases.volume import Volume
from client.segmentation.airway import follow_airway
from client.segmentation.components import Bits, bounding_box, dilate, label, sizes
from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadStudy

COARSE_MM = 1.6
"""Components are found on a grid no finer than this; coarser input is used as it is, voxel by voxel."""
MIN_LUNG_ML = 200.0
IN_SLICE = np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3], bool)


@dataclass(frozen=True)
class Lungs:
    """The air of both lungs inside a box of the coarse grid.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units of the box.
    air : ndarray of bool, shape (z, y, x)
        Air of the lungs, windpipe and main bronchi taken out.
    airway : ndarray of bool, shape (z, y, x)
        Windpipe and main bronchi.
    spacing_mm : tuple of float
        Of the coarse grid.
    middle : float
        x index, in the box, of the body's middle.
    box : tuple of slice
        The box in the coarse grid.
    steps : tuple of int
        Voxels of the volume in one coarse voxel, along (z, y, x).
    """

    hu: HU
    air: Bits
    airway: Bits
    spacing_mm: tuple[float, float, float]
    middle: float
    box: tuple[slice, ...]
    steps: tuple[int, int, int]


def find(
    volume: Volume, is_air: float | Callable[[HU], Bits], *, smallest_share: float = 0.1, coarse_mm: float = COARSE_MM, margin_mm: float = 0.0
) -> Lungs:
    """Return the air of the lungs: air inside the body, its large components, without the windpipe.

    In every slice, air that reaches the border is outside the body. Of what remains, the largest connected component (both lungs, joined by
    the airways) is kept, and a second one when it has at least `smallest_share` of the first. Windpipe and main bronchi are followed from
    the top and dropped.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).
    is_air : float or callable
        HU below which a voxel is air, or what tells it from the HU of the coarse grid.
    smallest_share : float
        Smallest second component, as a share of the first.
    coarse_mm : float
        The grid is no finer than this.
    margin_mm : float
        Kept around the lungs in the box.

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.
    """
    fz, fy, fx = steps = coarse_steps(volume, coarse_mm)
    coarse = volume.hu[::fz, ::fy, ::fx]
    dz, dy, dx = (a * b for a, b in zip(volume.spacing_mm, steps, strict=True))
    spacing_mm = (dz, dy, dx)
    inside, middle = inside_air(coarse, is_air)
    both = _largest(inside, smallest_share, volume.voxel_ml * fz * fy * fx)
    margins = [round(margin_mm / step) for step in spacing_mm]
    box = tuple(slice(max(0, b.start - m), min(n, b.stop + m)) for b, m, n in zip(bounding_box(both), margins, coarse.shape, strict=True))
    hu, air = coarse[box], both[box]
    airway = follow_airway(hu, air, spacing_mm, middle - box[2].start)
    return Lungs(hu, air & ~airway, airway, spacing_mm, middle - box[2].start, box, steps)


def coarse_steps(volume: Volume, coarse_mm: float) -> tuple[int, int, int]:
    """Return how many voxels of the volume one voxel of the coarse grid spans, along (z, y, x).

    Examples
    --------
    >>> coarse_steps(Volume(np.zeros((2, 2, 2), np.float32), (5.0, 0.7, 0.7)), 1.6)
    (1, 2, 2)
    """
    z, y, x = (max(1, int(coarse_mm // step)) for step in volume.spacing_mm)
    return z, y, x


def inside_air(hu: HU, is_air: float | Callable[[HU], Bits]) -> tuple[Bits, float]:
    """Return the air that no path inside its own slice joins to the slice's border, and the body's middle as an x index.

    Judging slice by slice keeps a leak in one slice from emptying the whole lung; what lies between inside air above and below is then
    given back to that slice.

    Examples
    --------
    >>> slab = np.zeros((1, 5, 5), np.float32)
    >>> slab[0, 2, 2] = slab[0, 0, 0] = -1000
    >>> inside_air(slab, -400)[0].nonzero()
    (array([0]), array([2]), array([2]))
    """
    air = is_air(hu) if callable(is_air) else hu < is_air
    labels, count = label(air, IN_SLICE)
    inside = np.ones(count + 1, bool)
    inside[0] = False
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        inside[edge] = False
    tissue = (~air).sum(axis=(0, 1))
    middle = float(tissue @ np.arange(len(tissue)) / max(1, tissue.sum()))
    found = inside[labels]
    found[1:-1] |= found[:-2] & found[2:] & air[1:-1]
    return found, middle


def _largest(inside: Bits, smallest_share: float, voxel_ml: float) -> Bits:
    labels, _ = label(inside)
    counts, order = sizes(labels)
    largest_ml = float(counts[order[0]]) * voxel_ml if order else 0.0
    if largest_ml < MIN_LUNG_ML:
        raise BadStudy("NO_LUNG", f"a chest CT holds at least {MIN_LUNG_ML:g} mL of air inside the body", value=round(largest_ml))
    lungs = labels == order[0]
    if len(order) > 1 and counts[order[1]] >= smallest_share * counts[order[0]]:
        lungs |= labels == order[1]
    return lungs


def onto(volume: Volume, lungs: Lungs, air: Bits, sides: Mask, below_hu: float) -> Mask:
    """Return the mask on every voxel of the volume.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).
    lungs : Lungs
        Where the box lies.
    air : ndarray of bool, shape of the box
        Lung that is air: there the border follows `below_hu` voxel by voxel, up to one coarse voxel further out.
    sides : ndarray of uint8, shape of the box
        1 right, 2 left; what is no air (vessels, dense disease) is taken over as it is.
    below_hu : float
        Air lies below it.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
    """
    mask = np.zeros(volume.hu.shape, np.uint8)
    if lungs.steps == (1, 1, 1):
        mask[lungs.box] = sides
        return mask
    near = _near(sides)
    near_air = np.where(air | (sides == 0), near, 0)
    solid = np.where(air, 0, sides).astype(np.uint8)
    fine = tuple(slice(b.start * f, min(b.stop * f, n)) for b, f, n in zip(lungs.box, lungs.steps, volume.hu.shape, strict=True))
    part_of = mask[fine]
    part_of[:] = _enlarged(near_air.astype(np.uint8), lungs.steps, part_of.shape)
    part_of *= volume.hu[fine] < below_hu
    np.maximum(part_of, _enlarged(solid, lungs.steps, part_of.shape), out=part_of)
    return mask


def spread_sides(sides: Mask, steps: tuple[int, int, int], within: Bits) -> Mask:
    """Return the sides of a coarse grid on the full one: each voxel of `within` gets the side that lies there, or one coarse voxel away.

    Parameters
    ----------
    sides : ndarray of uint8
        1 right, 2 left, on the grid of every ``steps``-th voxel.
    steps : tuple of int
        Voxels in a coarse one, along (z, y, x).
    within : ndarray of bool, shape (z, y, x)
        Lung on the full grid.
    """
    return _enlarged(_near(sides), steps, within.shape) * within


def _near(sides: Mask) -> Mask:
    near = sides.copy()
    for side in (1, 2):
        near[(near == 0) & dilate(sides == side)] = side
    return near


def _enlarged(labels: Mask, steps: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    for axis, step in enumerate(steps):
        if step > 1:
            labels = np.repeat(labels, step, axis=axis)
    return labels[tuple(slice(0, n) for n in shape)]
