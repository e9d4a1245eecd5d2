"""Median filter in the plane."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared
from client.preprocessing.planes import Plane, each_slice, framed, odd


def median(prepared: Prepared, *, size: Annotated[int, Field(ge=3, le=9)] = 3) -> Prepared:
    """Return every slice with each pixel set to the median of the `size` x `size` pixels around it; still Hounsfield units.

    Parameters
    ----------
    prepared : Prepared
        Image, shape (z, y, x).
    size : int
        Edge of the window in pixels, odd.

    Raises
    ------
    BadInput
        An even window.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> spike = np.zeros((1, 3, 3), np.float32)
    >>> spike[0, 1, 1] = 500
    >>> float(median(Prepared(Volume(spike, (1, 1, 1)))).volume.hu.max())
    0.0
    """
    odd(size, rule="a median window has a middle")
    return each_slice(prepared, lambda plane: median_plane(plane, size), is_hu=True)


def median_plane(plane: Plane, size: int) -> Plane:
    """Return the running median of a slice, mirrored at its border.

    Forgetful selection: of k > n / 2 + 1 values neither the smallest nor the largest can be the median of all n, so they are dropped and the
    next value comes in. Every comparison runs over the whole slice at once, which sorts hundreds of times as many pixels as one after
    another. Rows are taken in bands that stay in the processor's cache.

    Examples
    --------
    >>> median_plane(np.array([[1, 2, 9], [3, 4, 5], [0, 7, 6]], np.float32), 3)[1, 1]
    np.float32(4.0)
    """
    rows, columns = plane.shape
    wide = framed(plane, size // 2)
    out = np.empty_like(plane)
    band = max(8, 60_000 // (columns * (size * size // 2 + 3)))
    for first in range(0, rows, band):
        count = min(band, rows - first)
        windows = [wide[first + y : first + y + count, x : x + columns] for y in range(size) for x in range(size)]
        out[first : first + count] = _selected(windows)
    return out


def _selected(windows: list[Plane]) -> Plane:
    keep = len(windows) // 2 + 2
    held, coming = [window.copy() for window in windows[:keep]], list(windows[keep:])
    spare = np.empty_like(held[0])
    while len(held) > 1:
        half = len(held) // 2
        for i in range(half):  # after this the small ones stand in the first half, the large ones in the second
            spare = _order(held, i, len(held) - 1 - i, spare)
        lows, highs = list(range(len(held) - half)), list(range(half, len(held)))
        for i in lows[1:]:
            spare = _order(held, 0, i, spare)
        for i in highs[:-1]:
            spare = _order(held, i, len(held) - 1, spare)
        held = held[1:-1]
        if coming:
            held.append(coming.pop(0).copy())
    return held[0]


def _order(held: list[Plane], low: int, high: int, spare: Plane) -> Plane:
    np.minimum(held[low], held[high], out=spare)
    np.maximum(held[low], held[high], out=held[high])
    held[low], spare = spare, held[low]
    return spare
