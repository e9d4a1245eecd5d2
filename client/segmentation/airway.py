"""The windpipe and main bronchi inside an air mask, followed from the top slice by slice."""

from __future__ import annotations

import numpy as np

from client.segmentation.components import Bits, bounding_box, dilate, label
from shared_models.core.arrays import HU

AIRWAY_HU = -880.0
MIN_START_MM2, MAX_START_MM2 = 40.0, 700.0
MAX_AIRWAY_MM2 = 1000.0
MAX_OFF_MIDDLE_MM = 45.0
REACH_MM = 3.5
MAX_COLUMNS = 12
"""A slice with more pieces of air than this is no slice of the neck."""
TOP_SHARE = 0.35
"""The windpipe is looked for in the upper third of the mask only."""


def follow_airway(hu: HU, mask: Bits, spacing_mm: tuple[float, float, float], middle: float) -> Bits:
    """Return the voxels of `mask` that are windpipe or main bronchus.

    It starts at the highest slice that holds a round air column of 40-700 mm^2 near the body's middle, and goes down as long as air below
    -880 HU overlaps the slice above, at most 3.5 mm further out on each side; it ends where the area passes 1000 mm^2, which is where the
    bronchi open into lung.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units, z from feet to head.
    mask : ndarray of bool, shape (z, y, x)
        Air inside the body.
    spacing_mm : tuple of float
        (z, y, x), millimetres.
    middle : float
        x index of the body's middle.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        Empty where no such column is found.
    """
    out = np.zeros(mask.shape, bool)
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    top = len(mask) - 1
    here = None
    for z in range(top, max(-1, int(top * (1 - TOP_SHARE))), -1):
        here = _column(mask[z], hu[z], pixel_mm2, spacing_mm, middle)
        if here is not None:
            break
    if here is None:
        return out
    reach = (max(1, round(REACH_MM / spacing_mm[1])), max(1, round(REACH_MM / spacing_mm[2])))
    area = float(here.sum())
    while True:
        out[z] = here
        z -= 1
        if z < 0:
            break
        window = _around(here, (reach[0] + 1, reach[1] + 1))
        allowed = dilate(here[window], np.ones((2 * reach[0] + 1, 2 * reach[1] + 1), bool))
        inner = allowed & mask[z][window] & (hu[z][window] < AIRWAY_HU)
        new_area = float(inner.sum())
        if new_area * pixel_mm2 < MIN_START_MM2 / 2 or new_area * pixel_mm2 > MAX_AIRWAY_MM2 or new_area > 2.0 * area + 2:
            break
        here = np.zeros(mask.shape[1:], bool)
        here[window] = inner
        area = new_area
    rim = np.zeros((3, 3, 3), bool)
    rim[1, 1] = rim[1, :, 1] = True
    return dilate(out, rim) & mask


def _column(mask: Bits, hu: HU, pixel_mm2: float, spacing_mm: tuple[float, float, float], middle: float) -> Bits | None:
    labels, count = label(mask)
    if count > MAX_COLUMNS:
        return None
    for number in range(1, count + 1):
        box = bounding_box(labels == number)
        region = labels[box] == number
        area = region.sum() * pixel_mm2
        height, width = region.shape[0] * spacing_mm[1], region.shape[1] * spacing_mm[2]
        off = abs((box[1].start + box[1].stop - 1) / 2 - middle) * spacing_mm[2]
        if not MIN_START_MM2 <= area <= MAX_START_MM2 or off > MAX_OFF_MIDDLE_MM or max(height, width) > 2.2 * min(height, width):
            continue
        if float(np.percentile(hu[box][region], 25)) < AIRWAY_HU:
            return labels == number
    return None


def _around(region: Bits, margin: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = bounding_box(region)
    return slice(max(0, rows.start - margin[0]), rows.stop + margin[0]), slice(max(0, columns.start - margin[1]), columns.stop + margin[1])
