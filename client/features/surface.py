"""Area of a mask's surface, and the volume inside, by marching cubes (Lorensen and Cline 1987) without ever building the mesh.

Each of the 256 ways in which a cube's eight corners can lie inside or outside has its own few triangles. How often each way occurs is
counted, and multiplied with the area and the volume of its triangles.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from client.segmentation.components import Bits

CORNERS = tuple(itertools.product((0, 1), repeat=3))
"""(z, y, x) of a cube's corners; corner k is bit k of the cube's number."""

FOLDED_AT = CORNERS.index((1, 1, 0))
"""A cube with this corner inside has the triangles of its opposite: which of the two decides what diagonally opposed corners do. This is
the choice of pyradiomics, so that the area is the same even for masks of noise."""


@functools.cache
def triangles() -> tuple[NDArray[np.float64], ...]:
    """Return the triangles of each of the 256 cubes, shape (n, 3, 3): corners in (z, y, x), seen from outside in one sense of rotation.

    Examples
    --------
    >>> [len(triangles()[number]) for number in (0, 1, 3, 255)]
    [0, 1, 2, 0]
    """
    found = []
    for number in range(256):
        inside = np.array([(number >> k) & 1 for k in range(8)], np.float32)
        folded = bool(inside[FOLDED_AT])
        if folded:
            inside = 1 - inside
        if not inside.any():
            found.append(np.zeros((0, 3, 3)))
            continue
        corners, faces, _, _ = marching_cubes(inside.reshape(2, 2, 2), 0.5, method="lorensen")
        cube = corners[faces].astype(np.float64)
        found.append(cube[:, ::-1] if folded else cube)
    return tuple(found)


def surface_and_volume(mask: Bits, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Return area (mm^2) and volume (mm^3) of the marching cubes mesh of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        The region; beyond the array is outside.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Examples
    --------
    >>> area, volume = surface_and_volume(np.ones((1, 1, 1), bool), (1.0, 1.0, 1.0))  # an octahedron
    >>> round(area, 6), round(volume, 6)
    (1.732051, 0.166667)
    """
    grid = np.pad(mask, 1).view(np.uint8)
    depth, height, width = (n + 1 for n in mask.shape)  # of cubes
    numbers = np.zeros((depth, height, width), np.uint8)
    for k, (z, y, x) in enumerate(CORNERS):
        numbers |= grid[z : z + depth, y : y + height, x : x + width] << k
    cut = np.flatnonzero((numbers != 0) & (numbers != 255))
    kinds = numbers.ravel()[cut]
    counts = np.bincount(kinds, minlength=256)
    where = np.unravel_index(cut, numbers.shape)
    places = [np.bincount(kinds, weights, 256) * step for weights, step in zip(where, spacing_mm, strict=True)]
    area = volume = 0.0
    for number in np.flatnonzero(counts):
        a, b, c = (triangles()[number] * np.array(spacing_mm)).transpose(1, 0, 2)
        outward = np.cross(a, b) + np.cross(b, c) + np.cross(c, a)  # twice the area of each triangle, along its normal
        area += counts[number] * float(np.linalg.norm(outward, axis=1).sum()) / 2
        # the volume between a triangle and the origin is det(a, b, c) / 6; moving the cube adds its place times the normal
        volume += counts[number] * float((a * np.cross(b, c)).sum()) / 6
        volume += float(outward.sum(axis=0) @ np.array([place[number] for place in places])) / 6
    return float(area), abs(float(volume))
