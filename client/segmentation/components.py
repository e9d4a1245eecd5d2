"""Connected components and binary morphology, with the types that the image library leaves open."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bits: TypeAlias = NDArray[np.bool_]


def label(mask: Bits, structure: Bits | None = None) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of `mask` (faces touch, unless `structure` says otherwise); return labels and their count.

    Examples
    --------
    >>> label(np.array([[True, False, True]]))[0].tolist()
    [[1, 0, 2]]
    """
    labels = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure, output=labels)
    return labels, int(count)  # pyright: ignore[reportArgumentType]


def sizes(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], list[int]]:
    """Return the voxels of each label, background counted as 0, and the labels from large to small (ties by number).

    Examples
    --------
    >>> sizes(np.array([0, 1, 2, 2], np.int32))[1]
    [2, 1]
    """
    counts = np.bincount(labels.ravel()).astype(np.int64)
    counts[0] = 0
    order = np.argsort(-counts, kind="stable")
    return counts, [int(k) for k in order if counts[k] > 0]


def bounding_box(mask: Bits) -> tuple[slice, ...]:
    """Return the smallest box that holds all of `mask`, which must not be empty.

    Examples
    --------
    >>> bounding_box(np.array([[False, True, True, False]]))
    (slice(0, 1, None), slice(1, 3, None))
    """
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def dilate(mask: Bits, structure: Bits | None = None) -> Bits:
    """Return `mask` grown by one step of `structure` (faces by default)."""
    return np.asarray(ndimage.binary_dilation(mask, structure), dtype=bool)


def erode(mask: Bits, structure: Bits | None = None) -> Bits:
    """Return `mask` shrunk by one step of `structure` (faces by default); beyond the image counts as outside."""
    return np.asarray(ndimage.binary_erosion(mask, structure), dtype=bool)


def close_gaps(mask: Bits, close_mm: float, spacing_mm: tuple[float, float, float]) -> Bits:
    """Close gaps up to `close_mm` wide inside each slice (dilation, then erosion, by an ellipse of that diameter).

    Examples
    --------
    >>> slit = np.ones((1, 3, 5), bool)
    >>> slit[:, :, 2] = False
    >>> close_gaps(slit, 2.0, (1, 1, 1))[0, 1].tolist()
    [True, True, True, True, True]
    """
    ry, rx = (int(close_mm / 2 / step + 1e-6) for step in spacing_mm[1:])
    if ry < 1 and rx < 1:
        return mask
    y, x = np.ogrid[-ry : ry + 1, -rx : rx + 1]
    disc = ((y / max(ry, 1)) ** 2 + (x / max(rx, 1)) ** 2 <= 1.0)[None]
    grown = dilate(np.pad(mask, ((0, 0), (ry, ry), (rx, rx))), disc)
    return erode(grown, disc)[:, ry : grown.shape[1] - ry, rx : grown.shape[2] - rx] | mask
