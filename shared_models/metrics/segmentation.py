"""How well a mask matches the true one: overlap and volume. Masks are label images of equal shape, axes z y x."""

from __future__ import annotations

import numpy as np

from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.metrics.spec import number, ratio


def dice(mask: Mask, truth: Mask, *, label: int = 1) -> float | None:
    """Return ``2 |A and B| / (|A| + |B|)`` of the voxels with `label`; None where neither mask has any.

    Source: Dice, Ecology 1945;26:297.

    Examples
    --------
    >>> dice(np.array([[1, 1, 0]], np.uint8), np.array([[0, 1, 0]], np.uint8))
    0.6666666666666666
    """
    a, b = _voxels(mask, truth, label)
    return number(ratio(np.asarray(2 * np.count_nonzero(a & b)), np.asarray(np.count_nonzero(a) + np.count_nonzero(b))))


def volume_bias(mask: Mask, truth: Mask, *, label: int = 1) -> float | None:
    """Return ``(|A| - |B|) / |B|``: 0.1 means 10 % too much volume; None where the true mask has no voxel of `label`.

    Examples
    --------
    >>> volume_bias(np.array([[1, 1, 0]], np.uint8), np.array([[0, 1, 0]], np.uint8))
    1.0
    """
    a, b = _voxels(mask, truth, label)
    return number(ratio(np.asarray(np.count_nonzero(a) - np.count_nonzero(b)), np.asarray(np.count_nonzero(b))))


def _voxels(mask: Mask, truth: Mask, label: int) -> tuple[np.ndarray, np.ndarray]:
    if mask.shape != truth.shape:
        raise BadInput("two masks must have the same shape", value=(mask.shape, truth.shape))
    return mask == label, truth == label
