"""Size and shape of the lung (IBSI reference manual 3.1; names and conventions as in pyradiomics). HU are not looked at."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from client.cases.prepared import Prepared
from client.features.roi import Side, columns, named, side_mask
from client.features.surface import surface_and_volume
from client.segmentation.components import Bits, bounding_box

MEASURES = (
    "Elongation",
    "Flatness",
    "LeastAxisLength",
    "MajorAxisLength",
    "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow",
    "Maximum2DDiameterSlice",
    "Maximum3DDiameter",
    "MeshVolume",
    "MinorAxisLength",
    "Sphericity",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "VoxelVolume",
)
"""Names as in pyradiomics; their formulas stand in `describe_shape`."""

FEW_POINTS = 64
"""A hull is looked for from more points than this; fewer are compared outright."""


def shape_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `shape` in order.

    Examples
    --------
    >>> len(shape_names()), shape_names()[8]
    (14, 'original_shape_MeshVolume')
    """
    return columns("shape", MEASURES, side)


def shape(prepared: Prepared, *, side: Side = "whole") -> dict[str, float]:
    """Return the shape features of the lung mask.

    Parameters
    ----------
    prepared : Prepared
        Study with its lung mask, shape (z, y, x); its image may be anything.
    side : {"whole", "right", "left"}
        Which lung.

    Returns
    -------
    dict
        Keys of `shape_names`; NaN for an empty region.

    Raises
    ------
    BadInput
        No lung mask.
    """
    mask = side_mask(prepared, side)
    found = describe_shape(mask[bounding_box(mask)], prepared.volume.spacing_mm) if mask.any() else None
    return named("shape", MEASURES, side, found)


def describe_shape(mask: Bits, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Return the shape features of a mask.

    ``MeshVolume`` V and ``SurfaceArea`` A are those of the marching cubes mesh; ``VoxelVolume`` counts voxels; ``SurfaceVolumeRatio``
    A / V; ``Sphericity`` (36 pi V^2)^(1/3) / A. With l1 >= l2 >= l3 the eigenvalues of the covariance of the voxels' places, the axis
    lengths are 4 sqrt(l), ``Elongation`` sqrt(l2 / l1) and ``Flatness`` sqrt(l3 / l1). The diameters are the greatest distance of two
    corners of the mesh: anywhere, or in one plane of constant z (``Slice``), y (``Column``) or x (``Row``).

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        The region; not empty.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Examples
    --------
    >>> found = describe_shape(np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0))
    >>> round(found["MeshVolume"], 6), found["Maximum3DDiameter"], found["VoxelVolume"]
    (0.166667, 1.0, 1.0)
    """
    area, volume = surface_and_volume(mask, spacing_mm)
    places = np.argwhere(mask) * np.array(spacing_mm, np.float64)
    places -= places.mean(axis=0)
    least, minor, major = np.maximum(np.linalg.eigvalsh(places.T @ places / len(places)), 0.0)
    rows = _mesh_corners(mask, spacing_mm)
    across = _mesh_corners(mask.transpose(2, 0, 1), (spacing_mm[2], spacing_mm[0], spacing_mm[1]))
    return {
        "Elongation": math.sqrt(minor / major) if major > 0 else math.nan,
        "Flatness": math.sqrt(least / major) if major > 0 else math.nan,
        "LeastAxisLength": 4 * math.sqrt(least),
        "MajorAxisLength": 4 * math.sqrt(major),
        "Maximum2DDiameterColumn": _widest_plane(rows, 1),
        "Maximum2DDiameterRow": _widest_plane(across, 0),
        "Maximum2DDiameterSlice": _widest_plane(rows, 0),
        "Maximum3DDiameter": _diameter(rows),
        "MeshVolume": volume,
        "MinorAxisLength": 4 * math.sqrt(minor),
        "Sphericity": (36 * math.pi * volume**2) ** (1 / 3) / area,
        "SurfaceArea": area,
        "SurfaceVolumeRatio": area / volume,
        "VoxelVolume": len(places) * math.prod(spacing_mm),
    }


def _mesh_corners(mask: Bits, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the mesh's corners that lie first or last on their line along x, in mm: those in between are on no hull.

    A corner lies half way between a voxel inside and a neighbour outside, so along each axis it is where the mask changes.
    """
    grid = np.pad(mask, 1)
    found = []
    for axis in range(3):
        changes = np.moveaxis(np.moveaxis(grid, axis, 0)[1:] ^ np.moveaxis(grid, axis, 0)[:-1], 0, axis)
        z, y = np.nonzero(changes.any(axis=2))
        lines = changes[z, y]
        first, last = lines.argmax(axis=1), lines.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
        shift = np.array([0.5 * (axis == a) for a in range(3)])
        found += [np.stack([z, y, x], axis=1) + shift for x in (first, last)]
    return np.concatenate(found) * np.array(spacing_mm, np.float64)


def _widest_plane(points: NDArray[np.float64], axis: int) -> float:
    points = points[np.argsort(points[:, axis], kind="stable")]
    starts = np.flatnonzero(np.diff(points[:, axis], prepend=-np.inf))
    planes = np.delete(points, axis, axis=1)
    low, high = np.minimum.reduceat(planes, starts), np.maximum.reduceat(planes, starts)
    bounds = np.hypot(*(high - low).T)
    ends = np.append(starts[1:], len(points))
    widest = 0.0
    for number in np.argsort(-bounds):
        if bounds[number] <= widest:  # no later plane's box is any larger
            break
        widest = max(widest, _diameter(planes[starts[number] : ends[number]]))
    return widest


def _diameter(points: NDArray[np.float64]) -> float:
    if len(points) > FEW_POINTS:
        try:
            points = points[ConvexHull(points).vertices]
        except QhullError:  # all on one line: the ends decide
            order = np.lexsort(points.T)
            points = points[order[[0, -1]]]
    return float(pdist(points).max()) if len(points) > 1 else 0.0
