"""Depth in the lung: the distance of each voxel to the border of its own side, and shells of equal depth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from client.segmentation.components import bounding_box
from client.segmentation.sides import LEFT, RIGHT
from shared_models.core.arrays import Mask

SHELLS = {"peripheral": (0.0, 5.0), "intermediate": (5.0, 15.0), "central": (15.0, np.inf)}
"""Depth shells, millimetres from the pleura: [from, to)."""


def depth_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return the distance of each voxel to its own lung's border, millimetres; 0 outside.

    It is that to the centre of the nearest voxel outside, less half of the smallest voxel edge.

    Holes that a slice encloses (vessels, dense disease that the mask left out) are no border. Where the lungs touch the mediastinum that is
    border as well: a mask does not tell pleura from hilum.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        0 elsewhere, 1 right lung, 2 left lung.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Examples
    --------
    >>> depth_mm(np.array([[[0, 1, 1, 1, 1, 1, 0]]] * 9, np.uint8).repeat(9, axis=1), (1.0, 1.0, 1.0))[4, 4].tolist()
    [0.0, 0.5, 1.5, 2.5, 1.5, 0.5, 0.0]
    """
    found = np.zeros(mask.shape, np.float32)
    half_mm = min(spacing_mm) / 2
    in_slice = ndimage.generate_binary_structure(2, 1)[None]
    for side in (RIGHT, LEFT):
        lung = mask == side
        if not lung.any():
            continue
        box = bounding_box(lung)
        own = np.asarray(ndimage.binary_fill_holes(np.pad(lung[box], 1), structure=in_slice), dtype=bool)
        distance = np.asarray(ndimage.distance_transform_edt(own, sampling=spacing_mm), np.float32)[1:-1, 1:-1, 1:-1]
        here = found[box]
        here[lung[box]] = np.maximum(distance[lung[box]] - half_mm, 0.0)  # to the face between two voxels, not to the centre beyond
    return found


def shell_numbers(depths_mm: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each depth the number of its shell in `SHELLS`.

    Examples
    --------
    >>> shell_numbers(np.array([0.0, 5.0, 14.9, 40.0], np.float32)).tolist()
    [0, 1, 1, 2]
    """
    return np.digitize(depths_mm, [upper for _, upper in SHELLS.values()][:-1]).astype(np.intp)
