"""Right lung and left lung: parted at their thinnest joint."""

from __future__ import annotations

import numpy as np

from client.segmentation.components import Bits, dilate, erode, label, sizes
from shared_models.core.arrays import Mask

RIGHT, LEFT = 1, 2
"""Labels of a lung mask: the patient's own sides. Image axis x grows toward the patient's left."""
MIN_SIDE_SHARE = 0.15
MAX_PEEL_MM = 8.0


def part(mask: Bits, spacing_mm: tuple[float, float, float], middle: float) -> Mask:
    """Label the right lung 1 and the left lung 2.

    Lungs that are two components already are told apart by their place. Lungs that touch are peeled layer by layer until they fall into two
    parts of at least 15 % each, and every voxel then follows the part it grows back from. What cannot be parted so is cut at the middle.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Both lungs.
    spacing_mm : tuple of float
        (z, y, x), millimetres.
    middle : float
        x index of the body's middle, used where peeling fails and for one-sided lungs.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Examples
    --------
    >>> both = np.zeros((3, 3, 9), bool)
    >>> both[:, :, 1:4] = both[:, :, 5:8] = True
    >>> part(both, (1.0, 1.0, 1.0), 4.0)[1, 1].tolist()
    [0, 1, 1, 1, 0, 2, 2, 2, 0]
    """
    total = int(mask.sum())
    layer_mm = min(spacing_mm[1:])
    core, peeled = mask, 0
    while True:
        found = _two_parts(core, total)
        if found is not None:
            return _grown_back(mask, found, peeled)
        if (peeled + 1) * layer_mm > MAX_PEEL_MM:
            break
        core = erode(core)
        peeled += 1
        if not core.any():
            break
    return np.where(mask, np.where(np.arange(mask.shape[2]) < middle, RIGHT, LEFT), 0).astype(np.uint8)


def _two_parts(core: Bits, total: int) -> tuple[Bits, Bits] | None:
    labels, count = label(core)
    if count < 2:
        return None
    counts, order = sizes(labels)
    if counts[order[1]] < MIN_SIDE_SHARE * total:
        return None
    first, second = labels == order[0], labels == order[1]
    x = np.arange(core.shape[2])
    places = [float(side.sum(axis=(0, 1)) @ x / side.sum()) for side in (first, second)]
    return (first, second) if places[0] <= places[1] else (second, first)


def _grown_back(mask: Bits, cores: tuple[Bits, Bits], peeled: int) -> Mask:
    right, left = cores
    for _ in range(2 * peeled + 1 if peeled else 0):
        right = right | (dilate(right) & mask & ~left)
        left = left | (dilate(left) & mask & ~right)
    out = np.zeros(mask.shape, np.uint8)
    out[right], out[left] = RIGHT, LEFT
    rest = mask & (out == 0)
    if rest.any():
        x = np.arange(mask.shape[2])
        centres = [float((out == side).sum(axis=(0, 1)) @ x / max(1, (out == side).sum())) for side in (RIGHT, LEFT)]
        out[rest] = np.where(np.nonzero(rest)[2] < sum(centres) / 2, RIGHT, LEFT)
    return out
