"""Lung mask by region growing: from a seed in each lung over connected voxels whose grey value fits what was grown so far."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from client.cases.volume import Volume
from client.segmentation.components import Bits, close_gaps, dilate, label
from client.segmentation.lungs import find, onto
from client.segmentation.sides import part
from shared_models.core.arrays import HU, Mask

SEED_MM = 10.0
"""Radius of the ball around the seed that the first mean and spread come from."""
RIM_VOXELS = 2


def region_growing(
    volume: Volume,
    *,
    spread: Annotated[float, Field(gt=0, le=10)] = 4.0,
    below_hu: Annotated[float, Field(ge=-800, le=-200)] = -400.0,
    most_growth: Annotated[float, Field(gt=0, le=10)] = 0.3,
    rounds: Annotated[int, Field(ge=1, le=100)] = 12,
    close_mm: Annotated[float, Field(ge=0, le=30)] = 2.6,
) -> Mask:
    """Return the lung mask of a chest CT by region growing: 0 elsewhere, 1 right lung, 2 left lung.

    The seed of a side is its voxel of air nearest to the middle of that air. A region takes every smoothed voxel connected to its seed (faces
    touch) within `spread` standard deviations of the region's mean and below `below_hu`; mean and deviation are taken anew, until nothing
    changes. What is below `below_hu` within two voxels belongs to it too: the blurred rim of the lung fits no range.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    spread : float
        Half the range, in standard deviations.
    below_hu : float
        Nothing above it is taken.
    most_growth : float
        A round after the second that would let the region grow by more than this share is a leak: the region stays as it was.
    rounds : int
        Most rounds.
    close_mm : float
        Width of the gaps to close inside each slice, millimetres.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.

    Notes
    -----
    Adams & Bischof, "Seeded region growing", IEEE Trans Pattern Anal Mach Intell 1994, in the form that re-estimates the range
    (confidence connected).
    """
    lungs = find(volume, below_hu)
    smooth = in_slice_mean(lungs.hu)
    grown = np.zeros(lungs.air.shape, bool)
    for start in seeds(lungs.air, lungs.middle):
        grown |= grow(smooth, start, lungs.spacing_mm, spread=spread, below_hu=below_hu, most_growth=most_growth, rounds=rounds)
    for _ in range(RIM_VOXELS):
        grown |= dilate(grown) & lungs.air
    closed = close_gaps(grown, close_mm, lungs.spacing_mm) & ~lungs.airway
    air = closed & (lungs.hu < below_hu)
    return onto(volume, lungs, air, part(closed, lungs.spacing_mm, lungs.middle), below_hu)


def in_slice_mean(hu: HU) -> HU:
    """Return the mean over each voxel and its eight neighbours in the slice.

    Examples
    --------
    >>> spike = np.zeros((1, 3, 3), np.float32)
    >>> spike[0, 1, 1] = 9
    >>> in_slice_mean(spike)[0, 1].tolist()
    [1.0, 1.0, 1.0]
    """
    along = np.asarray(ndimage.uniform_filter1d(hu, 3, axis=1, mode="nearest"), np.float32)
    return np.asarray(ndimage.uniform_filter1d(along, 3, axis=2, mode="nearest"), np.float32)


def seeds(air: Bits, middle: float) -> list[tuple[int, int, int]]:
    """Return, for each side that holds air, the voxel nearest to the middle of that air.

    Examples
    --------
    >>> row = np.array([1, 1, 1, 0, 0, 1, 1, 1], bool).reshape(1, 1, -1)
    >>> seeds(row, 3.5)
    [(0, 0, 1), (0, 0, 6)]
    """
    found = []
    for half in (np.arange(air.shape[2]) < middle, np.arange(air.shape[2]) >= middle):
        at = np.argwhere(air & half)
        if len(at):
            nearest = int(np.square(at - at.mean(axis=0)).sum(axis=1).argmin())
            found.append((int(at[nearest][0]), int(at[nearest][1]), int(at[nearest][2])))
    return found


def grow(
    hu: HU,
    seed: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    spread: float,
    below_hu: float,
    most_growth: float,
    rounds: int,
) -> Bits:
    """Return the region grown from one seed; see `region_growing`.

    Examples
    --------
    >>> lung = np.full((9, 9, 9), 40, np.float32)
    >>> lung[2:7, 2:7, 2:7] = -850 + np.arange(5)
    >>> int(grow(lung, (4, 4, 4), (5.0, 5.0, 5.0), spread=2.5, below_hu=-400, most_growth=0.3, rounds=9).sum())
    125
    """
    ball = _ball(hu.shape, seed, spacing_mm)
    known = hu[ball & (hu < below_hu)]
    region = np.zeros(hu.shape, bool)
    region[seed] = True
    for number in range(rounds):
        mean, deviation = float(known.mean(dtype=np.float64)), float(known.std(dtype=np.float64))
        fits = (np.abs(hu - mean) <= spread * max(deviation, 1.0)) & (hu < below_hu)
        fits[seed] = True
        labels, _ = label(fits)
        taken = labels == labels[seed]
        if number >= 2 and taken.sum() > (1 + most_growth) * region.sum():
            break
        if np.array_equal(taken, region):
            break
        region = taken
        known = hu[region]
    return region


def _ball(shape: tuple[int, ...], seed: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    z, y, x = (((np.arange(n) - at) * step) ** 2 for n, at, step in zip(shape, seed, spacing_mm, strict=True))
    return np.asarray(z[:, None, None] + y[None, :, None] + x[None, None] <= SEED_MM**2)
