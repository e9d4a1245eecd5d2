"""One slice at a time: what all filters in the plane share. Slices never mix, so legacy HRCT with unseen lung between its slices is served too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from shared_models.core.arrays import HU
from shared_models.core.errors import BadInput

Plane = NDArray[np.float32]


def each_slice(prepared: Prepared, filtered: Callable[[Plane], np.ndarray], *, is_hu: bool) -> Prepared:
    """Return the study with every slice (y, x) taken through `filtered`; grid and mask stay.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> each_slice(Prepared(Volume(np.ones((2, 3, 3), np.float32), (1, 1, 1))), lambda plane: 2 * plane, is_hu=True).volume.hu[1, 1].tolist()
    [2.0, 2.0, 2.0]
    """
    hu = prepared.volume.hu
    out: HU = np.empty(hu.shape, np.float32)
    for number, plane in enumerate(hu):
        out[number] = filtered(np.ascontiguousarray(plane, np.float32))
    return prepared.with_image(replace(prepared.volume, hu=out), is_hu=is_hu)


def framed(plane: Plane, radius: int) -> Plane:
    """Return a slice with `radius` pixels mirrored around it (the edge pixel twice); slices narrower than that repeat the mirror.

    Examples
    --------
    >>> framed(np.array([[1, 2, 3]], np.float32), 1).tolist()
    [[1.0, 1.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.0, 3.0, 3.0], [1.0, 1.0, 2.0, 3.0, 3.0]]
    """
    return np.pad(plane, radius, mode="symmetric")


def odd(size: int, *, rule: str) -> int:
    """Return `size`, or refuse a window that has no middle.

    Examples
    --------
    >>> odd(5, rule="a median window has a middle")
    5
    """
    if size % 2 == 0:
        raise BadInput(rule, value=size, remedy=f"take {size - 1} or {size + 1}")
    return size
