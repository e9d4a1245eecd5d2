"""CLAHE: contrast limited adaptive histogram equalisation in the plane."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.prepared import Prepared
from client.preprocessing.planes import Plane, each_slice

LEVELS, PER_BIN, BINS = 16384, 65, 256
"""Grey levels, how many share a bin, and bins (253 of them in use): the grid of scikit-image, so that both give one picture."""


def clahe(
    prepared: Prepared,
    *,
    tiles: Annotated[int, Field(ge=1, le=64)] = 8,
    clip: Annotated[float, Field(ge=1, le=256)] = 2.56,
    level_hu: float = -600.0,
    width_hu: Annotated[float, Field(gt=1)] = 1500.0,
) -> Prepared:
    """Return grey values 0 to 255 of every slice, equalised in tiles whose mappings blend into one another. `is_hu` falls.

    The window comes first, so that one HU is one grey level in all scans before equalisation. A slice of one value keeps its windowed grey.

    Parameters
    ----------
    prepared : Prepared
        Hounsfield units, shape (z, y, x).
    tiles : int
        Tiles along y and along x.
    clip : float
        Largest count of a histogram bin over its mean (1/256 of the tile): the steepest slope of the mapping. 256 does not limit.
    level_hu, width_hu : float
        Centre and width of the window.

    References
    ----------
    Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994; equal to scikit-image's `equalize_adapthist` of the
    windowed slice within two grey levels.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> faint = np.full((1, 64, 64), -800, np.float32)
    >>> faint[0, :, ::2] = -780
    >>> step = clahe(Prepared(Volume(faint, (1, 1, 1))), tiles=2, clip=40)
    >>> bool(np.ptp(step.volume.hu) > 2 * 20 / 1500 * 255), step.is_hu
    (True, False)
    """
    low = np.float32(level_hu - width_hu / 2)

    def equalised(plane: Plane) -> Plane:
        unit = np.clip((plane - low) * np.float32(1 / width_hu), 0, 1)
        return unit * np.float32(255) if unit.min() == unit.max() else equalise(unit, tiles, clip)

    return each_slice(prepared, equalised, is_hu=False)


def equalise(unit: Plane, tiles: int, clip: float) -> Plane:
    """Return a slice of values 0 to 1 as equalised grey values 0 to 255.

    Examples
    --------
    >>> ramp = np.tile(np.linspace(0.4, 0.6, 64, dtype=np.float32), (64, 1))
    >>> out = equalise(ramp, 1, 256)  # without a limit and in one tile: plain histogram equalisation
    >>> bool(out.max() == 255 and (np.diff(out[0]) >= 0).all())
    True
    """
    # rounded twice, to 16 bits and then to levels, as scikit-image does: a pixel on the edge between two bins falls into the same one
    bins = np.rint(np.rint(unit * np.float32(65535)) * ((LEVELS - 1) / 65535)).astype(np.int32) // PER_BIN
    edges = [max(n // tiles, 1) for n in unit.shape]
    (rows, row_share), (columns, column_share) = (_neighbours(n, edge) for n, edge in zip(unit.shape, edges, strict=True))
    maps = _mappings(bins, edges, clip).astype(np.float32)
    # blended along y first: a row of tiles for each row of pixels, so that a pixel is looked up twice and not four times
    along = maps[rows[0]]
    along += row_share[:, None, None] * (maps[rows[1]] - along)
    flat = along.reshape(-1)
    place = (np.arange(unit.shape[0], dtype=np.int32) * (along.shape[1] * BINS))[:, None] + bins
    left, right = (np.take(flat, place + (column * BINS).astype(np.int32)) for column in columns)
    right -= left
    right *= column_share
    right += left
    return right


def _neighbours(count: int, edge: int) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]:
    """Return for each pixel the two tiles whose centres are nearest, and the share of the second."""
    place = np.arange(count) + edge // 2
    last = -(-count // edge) - 1
    first = place // edge - 1
    return (np.clip(first, 0, last), np.clip(first + 1, 0, last)), ((place % edge) / edge).astype(np.float32)


def _mappings(bins: NDArray[np.int32], edges: list[int], clip: float) -> NDArray[np.float64]:
    """Return the grey value of each bin in each tile, shape (tile rows, tile columns, bins)."""
    padded = np.pad(bins, [(0, -n % edge) for n, edge in zip(bins.shape, edges, strict=True)], mode="reflect")
    rows, columns = (n // edge for n, edge in zip(padded.shape, edges, strict=True))
    tile = (np.arange(padded.shape[0]) // edges[0] * columns)[:, None] + np.arange(padded.shape[1]) // edges[1]
    counts = np.bincount((tile * BINS + padded).ravel(), minlength=rows * columns * BINS).reshape(-1, BINS)
    size = edges[0] * edges[1]
    counts = _clipped(counts, max(1, int(clip / BINS * size)))
    grey = np.minimum(np.cumsum(counts, axis=1) * (255 / size), 255)
    return grey.reshape(rows, columns, BINS)


def _clipped(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Cut each row of counts at `limit` and spread what was cut off evenly over the bins below it: in whole counts, as scikit-image does."""
    excess = np.maximum(counts - limit, 0).sum(axis=1)
    counts = np.minimum(counts, limit)
    each = (excess // BINS)[:, None]
    low = counts < limit - each
    counts += each * low
    excess -= (each * low).sum(axis=1)
    filled = (counts >= limit - each) & (counts < limit)
    excess -= ((limit - counts) * filled).sum(axis=1)
    counts[filled] = limit
    for row in np.flatnonzero(excess > 0):
        _spread(counts[row], limit, int(excess[row]))
    return counts


def _spread(row: NDArray[np.int64], limit: int, left: int) -> None:
    while left > 0:
        before = left
        for first in range(BINS):
            under = row < limit
            stride = max(1, int(np.count_nonzero(under)) // left)
            chosen = under[first::stride]
            row[first::stride] += chosen
            left -= int(np.count_nonzero(chosen))
            if left <= 0:
                break
        if left == before:
            return
