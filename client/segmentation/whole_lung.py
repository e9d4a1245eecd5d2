"""Lung mask with the airless parts: threshold, then consolidation between lung and ribs is given back."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.volume import Volume
from client.segmentation.components import Bits, close_gaps, dilate, erode, label, sizes
from client.segmentation.costal import bridged, fan, hull_mm, rims
from client.segmentation.lungs import find, onto
from client.segmentation.sides import part
from shared_models.core.arrays import HU, Mask

BONE_HU = 150.0
CRUMB_SHARE = 0.03
"""A piece of a side smaller than this is no landmark: the rim of an airway, say."""


def whole_lung(
    volume: Volume,
    *,
    below_hu: Annotated[float, Field(ge=-800, le=-200)] = -400.0,
    close_mm: Annotated[float, Field(ge=0, le=30)] = 2.6,
    bridge_mm: Annotated[float, Field(ge=0, le=150)] = 40.0,
    reach_mm: Annotated[float, Field(ge=0, le=200)] = 60.0,
    shallow_mm: Annotated[float, Field(ge=0, le=60)] = 20.0,
    thinnest_mm: Annotated[float, Field(ge=0, le=20)] = 3.0,
    smallest_share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
) -> Mask:
    """Return the lung mask of a chest CT with its consolidation: 0 elsewhere, 1 right lung, 2 left lung.

    The mask of `threshold` loses what holds no air. Here soft tissue is given back where it lies, on a ray from the middle of the chest,
    between the first air of a side and the convex hull of that side's pleura in the slice. The heart lies nearer the middle than the lung
    and stays out; so does the liver, because deep fillings need lung of the same side above and below.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame (x grows to the patient's left).
    below_hu : float
        Air and lung lie below it, body above.
    close_mm : float
        Width of the gaps to close inside each slice, millimetres.
    bridge_mm : float
        Along z, a dent or a hole of the pleura up to this high is bridged.
    reach_mm : float
        Lung above and below counts up to this far away.
    shallow_mm : float
        A dent of the pleura no deeper than this is filled even without lung above and below, as at the base.
    thinnest_mm : float
        What is thinner is not given back: slivers between the pleura and its hull.
    smallest_share : float
        Smallest second component, as a share of the first.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.

    Notes
    -----
    The hull as in Pu et al., "Adaptive border marching algorithm: automatic lung segmentation on chest CT images", Comput Med Imaging Graph
    2008, which bridges dents of the pleura; rays and the rule about what lies above and below are this project's. A side without any air in
    a slice, nor within `bridge_mm` of it, stays lost.
    """
    lungs = find(volume, below_hu, smallest_share=smallest_share)
    closed = close_gaps(lungs.air, close_mm, lungs.spacing_mm) & ~lungs.airway
    sides = part(closed, lungs.spacing_mm, lungs.middle)
    sides = give_back(
        sides,
        lungs.hu,
        lungs.spacing_mm,
        lungs.middle,
        bridge_mm=bridge_mm,
        reach_mm=reach_mm,
        shallow_mm=shallow_mm,
        thinnest_mm=thinnest_mm,
    )
    return onto(volume, lungs, lungs.air, sides, below_hu)


def give_back(
    sides: Mask,
    hu: HU,
    spacing_mm: tuple[float, float, float],
    middle: float,
    *,
    bridge_mm: float,
    reach_mm: float,
    shallow_mm: float,
    thinnest_mm: float,
) -> Mask:
    """Return `sides` with the soft tissue between the first air of each side and the hull of its pleura; see `whole_lung`.

    Parameters
    ----------
    sides : ndarray of uint8, shape (z, y, x)
        1 right, 2 left.
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units.
    spacing_mm : tuple of float
        (z, y, x), millimetres.
    middle : float
        x index of the body's middle.
    """
    rows = np.flatnonzero(sides.any(axis=(0, 2)))
    rays = fan((sides.shape[1], sides.shape[2]), (spacing_mm[1], spacing_mm[2]), (float(rows[0] + rows[-1]) / 2, middle))
    added = np.zeros(sides.shape, np.uint8)
    for side in (1, 2):
        lung = _without_crumbs(sides == side)
        if not lung.any():
            continue
        near, far = rims(lung, rays)
        start, end = bridged(near, far, round(bridge_mm / spacing_mm[0]))
        around = above_and_below(lung, max(1, round(reach_mm / spacing_mm[0])))
        for z in range(len(lung)):
            hull = hull_mm(end[z], rays)
            if hull is None:
                continue
            limit = np.maximum(hull, end[z])[rays.ray]
            between = (end[z] > 0)[rays.ray] & (rays.away_mm > start[z][rays.ray]) & (rays.away_mm <= limit)
            rim = far[z][rays.ray]
            dent = (rim > 0) & (rays.away_mm > rim) & (rays.away_mm <= rim + shallow_mm)
            added[z][between & (dent | around[z]) & (hu[z] < BONE_HU) & (sides[z] == 0)] = side
    return np.where(_opened(added > 0, thinnest_mm, spacing_mm), added, sides).astype(np.uint8)


def above_and_below(lung: Bits, slices: int) -> Bits:
    """Return where lung lies in the same column both above and below, within so many slices.

    Examples
    --------
    >>> column = np.array([1, 0, 0, 1, 0], bool).reshape(-1, 1, 1)
    >>> above_and_below(column, 2).ravel().tolist()
    [True, True, True, True, False]
    """
    found = []
    for ordered in (lung, lung[::-1]):
        seen = np.zeros(lung.shape, bool)
        since = np.full(lung.shape[1:], slices + 1, np.int32)
        for z, pixels in enumerate(ordered):
            since = np.where(pixels, 0, since + 1)
            seen[z] = since <= slices
        found.append(seen)
    return found[0] & found[1][::-1]


def _without_crumbs(side: Bits) -> Bits:
    labels, count = label(side)
    counts, order = sizes(labels)
    kept = np.zeros(count + 1, bool)
    kept[[k for k in order if counts[k] >= CRUMB_SHARE * counts[order[0]]]] = True
    return kept[labels]


def _opened(mask: Bits, thinnest_mm: float, spacing_mm: tuple[float, float, float]) -> Bits:
    ry, rx = (round(thinnest_mm / 2 / step) for step in spacing_mm[1:])
    if ry < 1 and rx < 1:
        return mask
    y, x = np.ogrid[-ry : ry + 1, -rx : rx + 1]
    disc = ((y / max(ry, 1)) ** 2 + (x / max(rx, 1)) ** 2 <= 1.0)[None]
    return dilate(erode(mask, disc), disc)
