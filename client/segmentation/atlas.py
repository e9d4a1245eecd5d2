"""The lung divided by geometry: thirds of its height or volume, front and back, shells of depth under the pleura, and 36 regions of all three.

All functions take a lung mask (0 elsewhere, 1 right lung, 2 left lung; z grows towards the head, y towards the back) and give label images
of its shape, 0 outside the lung.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from client.segmentation.components import Bits, bounding_box
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput

SHELLS_MM = (10.0, 20.0)
REGIONS = 36
DEPTH_GRID_MM = 2.0
"""Depth is measured on a grid no finer than this: a distance transform costs more than all the rest."""


def region_names() -> tuple[str, ...]:
    """Return the names of the regions 1 to 36 in order.

    Examples
    --------
    >>> region_names()[0], region_names()[35]
    ('right_lower_front_outer', 'left_upper_back_inner')
    """
    return tuple(
        f"{side}_{level}_{face}_{shell}"
        for side in ("right", "left")
        for level in ("lower", "middle", "upper")
        for face in ("front", "back")
        for shell in ("outer", "middle", "inner")
    )


def thirds(mask: Mask, *, equal: Literal["height", "volume"] = "height") -> Mask:
    """Label lower, middle and upper third 1, 2 and 3.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask.
    equal : str
        ``height``: slices between the lowest and the highest of the mask are shared evenly. ``volume``: the slices are cut, for each lung on
        its own, where a third and two thirds of its voxels lie below.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Examples
    --------
    >>> column = np.ones((6, 1, 1), np.uint8)
    >>> thirds(column).ravel().tolist()
    [1, 1, 2, 2, 3, 3]
    """
    _check(mask)
    out = np.zeros(mask.shape, np.uint8)
    if equal == "height":
        (rows,) = np.nonzero(mask.any(axis=(1, 2)))
        low, high = int(rows[0]), int(rows[-1]) + 1
        level = np.zeros(len(mask), np.uint8)
        level[low:high] = 1 + np.minimum(3 * np.arange(high - low) // (high - low), 2)
        return np.where(mask > 0, level[:, None, None], 0).astype(np.uint8)
    for side in (1, 2):
        lung = mask == side
        if lung.any():
            out += lung * _cut(lung.sum(axis=(1, 2)), 3)[:, None, None]
    return out


def depth_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return the distance of each lung voxel to the surface of its own lung, millimetres; 0 outside.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask.
    spacing_mm : tuple of float
        (z, y, x).

    Examples
    --------
    >>> row = np.pad(np.ones((9, 9, 9), np.uint8), 1)
    >>> depth_mm(row, (4.0, 4.0, 4.0))[5, 5, :4].tolist()
    [0.0, 2.0, 6.0, 10.0]
    """
    _check(mask)
    out = np.zeros(mask.shape, np.float32)
    steps = [max(1, int(DEPTH_GRID_MM // step)) for step in spacing_mm]
    for side in (1, 2):
        lung = mask == side
        if not lung.any():
            continue
        box = bounding_box(lung)
        inside = lung[box]
        coarse = np.pad(inside[tuple(slice(None, None, s) for s in steps)], 1)
        grid = [step * s for step, s in zip(spacing_mm, steps, strict=True)]
        # distance between voxel centres; the surface lies half a voxel before the first centre outside
        depth = np.asarray(ndimage.distance_transform_edt(coarse, sampling=grid), np.float32)[1:-1, 1:-1, 1:-1]
        depth = np.maximum(depth - np.float32(min(grid) / 2), 0)
        for axis, s in enumerate(steps):
            depth = np.repeat(depth, s, axis=axis) if s > 1 else depth
        out[box][inside] = depth[tuple(slice(0, n) for n in inside.shape)][inside]
    return out


def depth_shells(mask: Mask, spacing_mm: tuple[float, float, float], *, edges_mm: tuple[float, ...] = SHELLS_MM) -> Mask:
    """Label shells of depth under the surface of each lung from 1, the outermost, to ``len(edges_mm) + 1``.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask.
    spacing_mm : tuple of float
        (z, y, x).
    edges_mm : tuple of float
        Depths at which one shell ends and the next begins, ascending.

    Raises
    ------
    BadInput
        Edges that do not ascend, or an empty mask.
    """
    if any(high <= low for low, high in zip((0.0, *edges_mm[:-1]), edges_mm, strict=True)) or len(edges_mm) > 250:
        raise BadInput("depths of shells must ascend from above 0", value=edges_mm)
    shells = 1 + np.searchsorted(np.asarray(edges_mm, np.float32), depth_mm(mask, spacing_mm), side="right")
    return np.where(mask > 0, shells, 0).astype(np.uint8)


def atlas(mask: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """Label 36 regions: 2 lungs, 3 levels of equal volume, front and back half of the level, 3 shells of depth (0-10, 10-20, above 20 mm).

    A cell in which one of the shells would be empty, as at the tip of a small lung, is shared out by the order of its depths instead, a
    third each; so no region is empty in a lung of three voxels a cell.

    Parameters
    ----------
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask.
    spacing_mm : tuple of float
        (z, y, x).

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
        Labels 1 to 36 in the order of `region_names`.

    Notes
    -----
    Sun et al., J Imaging Inform Med 2024;37:268 divide the lungs into 36 regions by geometry; their very rule is not published in the
    abstract, this one is the project's.
    """
    _check(mask)
    out = np.zeros(mask.shape, np.uint8)
    depth, levels = depth_mm(mask, spacing_mm), thirds(mask, equal="volume")
    for side in (1, 2):
        lung = mask == side
        for level in (1, 2, 3):
            there = lung & (levels == level)
            if not there.any():
                continue
            box = bounding_box(there)
            cell, deep, target = there[box], depth[box], out[box]
            face = _cut(cell.sum(axis=(0, 2)), 2)
            for half in (1, 2):
                part = cell & (face == half)[None, :, None]
                if part.any():
                    target[part] = 1 + 18 * (side - 1) + 6 * (level - 1) + 3 * (half - 1) + _shell(deep[part])
    return out


def _shell(depth: NDArray[np.float32]) -> NDArray[np.int64]:
    shells = np.searchsorted(np.asarray(SHELLS_MM, np.float32), depth, side="right")
    if len(np.unique(shells)) == 3:
        return shells
    rank = np.empty(len(depth), np.int64)
    rank[np.argsort(depth, kind="stable")] = np.arange(len(depth))
    return 3 * rank // len(depth)


def _cut(counts: NDArray[np.integer], parts: int) -> Mask:
    # labels 1..parts along an axis, so that each part holds about the same count
    middle = np.cumsum(counts) - counts / 2
    return (1 + np.minimum((parts * middle / max(1, int(counts.sum()))).astype(int), parts - 1)).astype(np.uint8)


def _check(mask: Bits | Mask) -> None:
    if mask.ndim != 3 or not mask.any():
        raise BadInput("a lung mask has axes z y x and holds lung", value=mask.shape)
