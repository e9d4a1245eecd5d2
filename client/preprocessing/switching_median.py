"""Adaptive fuzzy switching median: impulse noise goes, everything else stays to the bit."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from client.cases.prepared import Prepared
from client.preprocessing.planes import Plane, each_slice, framed
from shared_models.core.errors import BadInput

RADII = (1, 2, 3)
"""Windows of 3, 5 and 7 pixels, in the order in which they are tried."""
REGION_RADIUS = 2


def switching_median(
    prepared: Prepared,
    *,
    low_hu: float = -1024.0,
    high_hu: float = 3071.0,
    none_below_hu: Annotated[float, Field(ge=0, le=4000)] = 40.0,
    full_above_hu: Annotated[float, Field(gt=0, le=4000)] = 160.0,
) -> Prepared:
    """Return every slice without salt and pepper: pixels at the ends of the scale that differ from what is around them; still HU.

    1. A pixel at or below `low_hu`, or at or above `high_hu`, is suspect, unless half of its 5 x 5 surroundings sit at the same end: then it
    belongs to a region (air around the patient, metal). 2. m is the median of the pixels around it that are not suspect, in the smallest
    window of 3, 5 and 7 that holds one; if none does, the pixel stays. 3. With r = |x - m| the pixel becomes ``(1 - u) x + u m``, where u
    rises from 0 at `none_below_hu` to 1 at `full_above_hu`.

    Parameters
    ----------
    prepared : Prepared
        Image, shape (z, y, x).
    low_hu, high_hu : float
        Ends of the scale: what pepper and salt look like.
    none_below_hu, full_above_hu : float
        Thresholds of the fuzzy membership.

    Raises
    ------
    BadInput
        Ends or thresholds in the wrong order.

    References
    ----------
    Toh & Isa, Noise adaptive fuzzy switching median filter for salt-and-pepper noise reduction, IEEE Signal Processing Letters 2010.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> plane = np.full((1, 7, 7), -850, np.float32)
    >>> plane[0, 3, 3] = 3071
    >>> float(switching_median(Prepared(Volume(plane, (1, 1, 1)))).volume.hu.max())
    -850.0
    """
    if not low_hu < high_hu:
        raise BadInput("switching_median needs low_hu below high_hu", value=(low_hu, high_hu))
    if not none_below_hu < full_above_hu:
        raise BadInput("switching_median needs none_below_hu below full_above_hu", value=(none_below_hu, full_above_hu))
    return each_slice(prepared, lambda plane: _switched(plane, low_hu, high_hu, none_below_hu, full_above_hu), is_hu=True)


def _switched(plane: Plane, low_hu: float, high_hu: float, none_below_hu: float, full_above_hu: float) -> Plane:
    suspect = np.zeros(plane.shape, bool)
    for end in (plane <= low_hu, plane >= high_hu):
        if end.any():
            side = 2 * REGION_RADIUS + 1
            alike = ndimage.uniform_filter(end.astype(np.float32), side, mode="reflect") * side**2
            suspect |= end & (alike < 1 + (side**2 - 1) / 2)
    rows, columns = np.nonzero(suspect)
    out = plane.copy()
    if len(rows) == 0:
        return out
    values, widest = framed(np.where(suspect, np.float32(np.nan), plane), RADII[-1]), RADII[-1]
    middle = np.full(len(rows), np.nan, np.float32)
    for radius in RADII:
        open_ = np.flatnonzero(np.isnan(middle))
        if len(open_) == 0:
            break
        reach = np.arange(-radius, radius + 1) + widest
        window = values[rows[open_, None, None] + reach[:, None], columns[open_, None, None] + reach].reshape(len(open_), -1)
        middle[open_] = _median_of_known(window)
    known = ~np.isnan(middle)
    at = (rows[known], columns[known])
    x, m = plane[at], middle[known]
    u = np.clip((np.abs(x - m) - none_below_hu) / (full_above_hu - none_below_hu), 0, 1)
    out[at] = (1 - u) * x + u * m
    return out


def _median_of_known(window: np.ndarray) -> np.ndarray:
    # rows of numbers and NaN: NaN sort to the end, so the middle of the known ones is found by their count
    window = np.sort(window, axis=1)
    count = np.count_nonzero(~np.isnan(window), axis=1)
    rows = np.arange(len(window))
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, window.shape[1] - 1)
    return np.where(count > 0, (window[rows, low] + window[rows, high]) / 2, np.nan).astype(np.float32)
