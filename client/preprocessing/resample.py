"""Resample to another voxel size: the image linearly (finer) or by averages (coarser), axis by axis; mask and annotation by nearest neighbour."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.prepared import Prepared


def resample(
    prepared: Prepared,
    *,
    z_mm: Annotated[float, Field(gt=0.2, le=20)] | None = None,
    y_mm: Annotated[float, Field(gt=0.2, le=20)] | None = None,
    x_mm: Annotated[float, Field(gt=0.2, le=20)] | None = None,
    isotropic_mm: Annotated[float, Field(gt=0.2, le=20)] | None = None,
) -> Prepared:
    """Return image and mask on a grid of the given voxel size that covers the same field of view.

    Along each axis n voxels of d mm become round(n d / d') of d' mm (at least one), centred on the same field of view. Going coarser, each
    new value is the mean of the old voxels it covers, which does not alias; going finer it is interpolated linearly.
    An axis that is not named keeps its voxels.

    Parameters
    ----------
    prepared : Prepared
        Image and mask, shape (z, y, x).
    z_mm, y_mm, x_mm : float, optional
        New voxel size along one axis, millimetres.
    isotropic_mm : float, optional
        New voxel size for every axis that is not named on its own.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> ramp = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    >>> resample(Prepared(Volume(ramp, (1.0, 1.0, 1.0))), z_mm=2.0).volume.hu.ravel().tolist()
    [0.5, 2.5]
    """
    volume, mask = prepared.volume, prepared.mask
    wanted = tuple(
        w if w is not None else isotropic_mm if isotropic_mm is not None else s for w, s in zip((z_mm, y_mm, x_mm), volume.spacing_mm, strict=True)
    )
    counts = tuple(max(1, round(n * s / w)) for n, s, w in zip(volume.hu.shape, volume.spacing_mm, wanted, strict=True))
    hu, drawn = volume.hu, prepared.annotation
    # the axis that shrinks most goes first: the others then have less to do
    for axis in sorted(range(3), key=lambda a: counts[a] / volume.hu.shape[a]):
        if not _is_same(hu.shape[axis], counts[axis], volume.spacing_mm[axis], wanted[axis]):
            hu = resample_axis(hu, counts[axis], volume.spacing_mm[axis], wanted[axis], axis)
            near = nearest(volume.hu.shape[axis], counts[axis], volume.spacing_mm[axis], wanted[axis])
            mask, drawn = (None if labels is None else np.take(labels, near, axis=axis) for labels in (mask, drawn))
    shift = [((c - 1) * w - (n - 1) * s) / 2 for n, c, s, w in zip(volume.hu.shape, counts, volume.spacing_mm, wanted, strict=True)]
    axes = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float) if volume.direction is None else volume.direction
    origin = np.array(volume.origin_mm) - np.array(shift) @ axes
    place = (float(origin[0]), float(origin[1]), float(origin[2]))
    moved = replace(volume, hu=np.ascontiguousarray(hu, np.float32), spacing_mm=(wanted[0], wanted[1], wanted[2]), origin_mm=place)
    mask, drawn = (None if labels is None else np.ascontiguousarray(labels) for labels in (mask, drawn))
    return replace(prepared, volume=moved, mask=mask, annotation=drawn)


def _is_same(n: int, count: int, old_mm: float, new_mm: float) -> bool:
    return n == count and abs(old_mm - new_mm) < 1e-9


def _places(n: int, count: int, old_mm: float, new_mm: float) -> NDArray[np.float64]:
    # index, on the old grid, of each new voxel's centre
    return (n - 1) / 2 + (np.arange(count, dtype=np.float64) - (count - 1) / 2) * np.float64(new_mm / old_mm)


def nearest(n: int, count: int, old_mm: float, new_mm: float) -> NDArray[np.intp]:
    """Return, for each new voxel, the index of the old one nearest to its centre.

    Examples
    --------
    >>> nearest(4, 2, 1.0, 2.0).tolist()
    [0, 2]
    """
    return np.clip(np.floor(_places(n, count, old_mm, new_mm) + 0.5 - 1e-6), 0, n - 1).astype(np.intp)


def weights(n: int, count: int, old_mm: float, new_mm: float) -> NDArray[np.float32]:
    """Return the matrix, shape (count, n), that takes an axis from n voxels of `old_mm` to `count` voxels of `new_mm`.

    Going finer its rows are the two weights of linear interpolation; going coarser they are the overlaps of each new voxel with the old
    ones. Rows sum to 1; beyond the field of view the outermost voxel goes on.

    Examples
    --------
    >>> weights(4, 2, 1.0, 2.0).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    places = _places(n, count, old_mm, new_mm)
    out = np.zeros((count, n), np.float64)
    rows = np.arange(count)
    if new_mm <= old_mm:
        clamped = np.clip(places, 0, n - 1)
        low = np.minimum(np.floor(clamped).astype(int), max(n - 2, 0))
        part = clamped - low
        out[rows, low] += 1 - part
        out[rows, np.minimum(low + 1, n - 1)] += part
    else:
        half = new_mm / old_mm / 2
        start, stop = places - half, places + half
        edges_low, edges_high = np.arange(n) - 0.5, np.arange(n) + 0.5
        edges_low[0], edges_high[-1] = -np.inf, np.inf
        overlap = np.minimum(stop[:, None], edges_high[None]) - np.maximum(start[:, None], edges_low[None])
        out = np.clip(overlap, 0, None) / (2 * half)
    return out.astype(np.float32)


def resample_axis(hu: NDArray[np.float32], count: int, old_mm: float, new_mm: float, axis: int) -> NDArray[np.float32]:
    """Return `hu` with one axis taken to `count` voxels of `new_mm`: one matrix product with `weights`."""
    matrix = weights(hu.shape[axis], count, old_mm, new_mm)
    if axis == 2:
        return hu @ matrix.T
    if axis == 1:
        return np.matmul(matrix, hu)
    flat = np.ascontiguousarray(hu).reshape(hu.shape[0], -1)
    return (matrix @ flat).reshape(count, *hu.shape[1:])
