"""Signs that patient or field of view moved out of place: steps between slices, and lungs that meet the rim of the image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from client.cases.volume import Volume

NEIGHBOURS = 4
"""Slice steps on either side that a step is compared with."""
MOVED_MM, MOVED_PIXEL_MM = 12.0, 2.5
"""How far a slice is moved each way, and on pixels of about which size."""
LOOKED_AT = 16
"""Slices looked at for truncation, spread evenly."""
AERATED_HU = (-920.0, -500.0)
MIN_AREA_CM2 = 10.0
MIN_CONTACT_MM = 20.0
MIN_ENCLOSED = 0.6
TABLE_AT = 0.8
"""Share of the body's depth behind which the table may lie."""


def step_changes(volume: Volume) -> dict[int, float]:
    """Return for each step the change to the next slice over the median of the four changes on either side; nothing below ten slices.

    The change is the mean absolute difference of every other pixel, clipped to -1000..200 HU, so that bone and metal do not rule. A breath or a
    shift between two table positions shows as one step, whatever the kernel; motion blur inside slices does not show. The two steps at either
    end, where the body's shape changes fast, are left out.

    Examples
    --------
    >>> still = np.random.default_rng(0).normal(0, 20, (20, 16, 16)).astype(np.float32)
    >>> moved = still.copy()
    >>> moved[10:] -= 150
    >>> changes = step_changes(Volume(moved, (1, 1, 1)))
    >>> max(step_changes(Volume(still, (1, 1, 1))).values()) < 1.5 < changes[9] == max(changes.values())
    True
    """
    hu = volume.hu
    if len(hu) < 10:
        return {}
    below = np.clip(hu[0, ::2, ::2], -1000, 200)
    steps = np.empty(len(hu) - 1)
    for k in range(len(steps)):
        above = np.clip(hu[k + 1, ::2, ::2], -1000, 200)
        steps[k] = np.abs(above - below).mean()
        below = above
    return {k: float(steps[k] / max(float(np.median(_around(steps, k))), 1.0)) for k in range(2, len(steps) - 2)}


def best_move(volume: Volume, step: int) -> tuple[float, float]:
    """Return by what factor the slice above a step fits the one below better when moved in its plane, and by how many millimetres.

    A small shift between two table positions changes little more than anatomy does, but anatomy does not fit better when moved: 1 and 0 then.
    Moves go up to `MOVED_MM` each way, pixel by pixel of about `MOVED_PIXEL_MM`; the change is that of `step_changes`.

    Examples
    --------
    >>> grain = np.random.default_rng(0).normal(-400, 300, (8, 8)).repeat(8, 0).repeat(8, 1)
    >>> moved = np.stack([grain, grain, np.roll(grain, 2, axis=1)]).astype(np.float32)
    >>> best_move(Volume(moved, (1, 2.5, 2.5)), 0)
    (1.0, 0.0)
    >>> factor, away_mm = best_move(Volume(moved, (1, 2.5, 2.5)), 1)
    >>> factor > 2, away_mm
    (True, 5.0)
    """
    _, *pixel_mm = volume.spacing_mm
    every = [max(1, int(MOVED_PIXEL_MM / length)) for length in pixel_mm]
    below, above = (np.clip(volume.hu[z, :: every[0], :: every[1]], -1000, 200) for z in (step, step + 1))
    y_mm, x_mm = (length * n for length, n in zip(pixel_mm, every, strict=True))
    y, x = (min(math.ceil(MOVED_MM / length), n // 4) for length, n in zip((y_mm, x_mm), below.shape, strict=True))
    rows, columns = below.shape[0] - 2 * y, below.shape[1] - 2 * x
    core = above[y : y + rows, x : x + columns]
    change = {(i, j): float(np.abs(below[i : i + rows, j : j + columns] - core).mean()) for i in range(2 * y + 1) for j in range(2 * x + 1)}
    i, j = min(change, key=lambda move: change[move])
    if change[i, j] >= change[y, x]:
        return 1.0, 0.0
    return change[y, x] / max(change[i, j], 1.0), math.hypot((i - y) * y_mm, (j - x) * x_mm)


def truncated_share(volume: Volume) -> float:
    """Return the share of slices in which lung meets the rim of the field of view: the image's border, or padding connected to it.

    Lung is told by its density, for a segmenter may well lose a lung that opens to the outside: a patch of -920 to -500 HU (mean of 3 x 3) of at
    least 10 cm2 that runs along the rim for 20 mm or more and has tissue on most of its other sides. What lies at the height of the back is not
    looked at: tables are there. Sixteen slices are looked at, on pixels of about 2 mm.

    Examples
    --------
    >>> hu = np.full((1, 40, 40), 40, np.float32)
    >>> hu[0, 10:30, 10:30] = -850
    >>> truncated_share(Volume(hu, (5, 5, 5))), truncated_share(Volume(hu[:, :, 15:], (5, 5, 5)))
    (0.0, 1.0)
    """
    _, y_mm, x_mm = volume.spacing_mm
    pixel_mm = (y_mm * x_mm) ** 0.5
    coarse = max(1, int(2 / pixel_mm))
    chosen = np.unique(np.linspace(0, len(volume.hu) - 1, LOOKED_AT).astype(int))
    cut = [_meets_rim(volume.hu[k, ::coarse, ::coarse], pixel_mm * coarse) for k in chosen]
    return sum(cut) / len(cut)


def _meets_rim(plane: np.ndarray, pixel_mm: float) -> bool:
    padding = plane <= -1024
    mean = np.asarray(ndimage.uniform_filter(plane, 3, mode="nearest"))
    labels = _pieces(np.asarray(ndimage.binary_opening((mean > AERATED_HU[0]) & (mean < AERATED_HU[1]) & ~padding, np.ones((3, 3))), bool))
    count = int(labels.max())
    if not count:
        return False
    tissue = _pieces(np.asarray(mean > -300, bool))
    body = np.flatnonzero((tissue == np.bincount(tissue[tissue > 0]).argmax()).any(1)) if tissue.any() else np.arange(0)
    if not len(body):
        return False
    outside = _pieces(np.pad(padding, 1, constant_values=True))
    rim = _grown(_grown(outside == outside[0, 0], 1, square=True), 1, square=True)[1:-1, 1:-1]  # the mean of 3 x 3 mixes padding in
    front = rim.copy()
    front[int(body[0] + TABLE_AT * (body[-1] - body[0])) :] = False
    areas = np.bincount(labels.ravel(), minlength=count + 1) * (pixel_mm / 10) ** 2
    contact = np.bincount(labels[front], minlength=count + 1) * pixel_mm / 2
    for number in range(1, count + 1):
        if areas[number] < MIN_AREA_CM2 or contact[number] < MIN_CONTACT_MM:
            continue
        patch = labels == number
        around = _grown(patch, 4) & ~_grown(patch, 2) & ~rim & ~padding
        if around.any() and float((mean[around] > AERATED_HU[1]).mean()) >= MIN_ENCLOSED:  # a table or a blanket has air around it
            return True
    return False


def _pieces(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def _grown(mask: NDArray[np.bool_], pixels: int, *, square: bool = False) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3)) if square else None, iterations=pixels), bool)


def _around(steps: np.ndarray, k: int) -> np.ndarray:
    return np.concatenate([steps[max(0, k - NEIGHBOURS) : k], steps[k + 1 : k + 1 + NEIGHBOURS]])
