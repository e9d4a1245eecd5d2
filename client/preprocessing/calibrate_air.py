"""Shift a scan's Hounsfield scale so that the air around the patient reads as air."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing.wiener import local_moments
from shared_models.core.errors import BadInput, BadStudy

AIR_HU = -1000.0
"""What air is by the definition of the scale."""
LOWEST_HU = -1024.0
"""What most files cannot go below."""
BELOW_HU = -900.0
"""Mean of a window that holds no tissue, on a scale that is not far off."""
SIDE_MM = 8.0
"""Edge of the windows."""
SLICES, FEWEST_WINDOWS, FAR = 12, 40, 4.0


def calibrate_air(prepared: Prepared, *, most_hu: Annotated[float, Field(gt=0, le=100)] = 30.0) -> Prepared:
    """Return the image moved by one number of HU, so that the air outside the body has a median of -1000; still Hounsfield units.

    Scanners drift by some HU, and a lung is judged by differences of some tens. Only the offset is set right: slope errors would need blood.
    It comes first among the steps: what is filtered afterwards is on the common scale.

    Parameters
    ----------
    prepared : Prepared
        Hounsfield units, shape (z, y, x).
    most_hu : float
        Largest shift that is believed, HU; what lies farther off is no drift, but lung that reaches the border of a narrow field of view.

    Raises
    ------
    BadStudy
        ``NO_AIR``: too little air outside the body to measure, or air that is off by more than `most_hu`.
    BadInput
        The intensities were changed before.

    References
    ----------
    Air as a reference of lung densitometry: Parr et al., Validation of computed tomographic lung densitometry for monitoring emphysema in
    alpha-1-antitrypsin deficiency, Thorax 2006;61:485.

    Examples
    --------
    >>> chest = np.random.default_rng(0).normal(-985, 10, (2, 60, 60)).astype(np.float32)
    >>> chest[:, 20:40, 20:40] = 40
    >>> moved = calibrate_air(Prepared(Volume(chest, (1, 1, 1)))).volume.hu
    >>> bool(abs(np.median(moved[:, :10]) + 1000) < 1), bool(24 < moved[0, 30, 30] < 26)
    (True, True)
    """
    if not prepared.is_hu:
        raise BadInput("calibrate_air needs Hounsfield units", value="an image whose intensities were changed", remedy="calibrate before such a step")
    air = measure_air(prepared.volume)
    if not abs(air - AIR_HU) <= most_hu:  # NaN where none was found
        raise BadStudy("NO_AIR", "air outside the body tells the offset of the scale", value=None if np.isnan(air) else round(air))
    hu = np.asarray(prepared.volume.hu, np.float32) + np.float32(AIR_HU - air)
    return prepared.with_image(replace(prepared.volume, hu=hu), is_hu=True)


def measure_air(volume: Volume) -> float:
    """Return HU of the air outside the body over some slices: the median over windows of their medians; NaN where there is too little of it.

    Outside is what reaches the image's border through air or padding, so that the trachea does not count, nor emphysema but where the field of view
    cuts it. Padding (even, whatever its value) is no measurement. Files end at -1024: noise that was cut off there moves no median, but air that
    lies there itself is no measurement either. Clothing and couch lie above air: windows that are more than `FAR`
    spreads (median absolute deviation) above the median are left out, until none is.

    Examples
    --------
    >>> measure_air(Volume(np.full((1, 40, 40), -1024, np.float32), (1, 1, 1)))
    nan
    """
    side = max(3, round(SIDE_MM / max(volume.spacing_mm[1:])))
    found = []
    for z in np.unique(np.rint(np.linspace(0, len(volume.hu) - 1, SLICES)).astype(int)):
        plane = np.ascontiguousarray(volume.hu[z], np.float32)
        mean, variance = local_moments(plane, side)
        padding = variance < 1e-3  # what a scanner measured is never even
        reached = np.pad((mean < BELOW_HU) | padding, 1, constant_values=True)
        empty = np.empty(reached.shape, np.int32)
        ndimage.label(reached, output=empty)
        outside = (empty == empty[0, 0])[1:-1, 1:-1]
        within = np.asarray(ndimage.binary_dilation(padding, np.ones((3, 3)), iterations=side), bool)  # a window with padding is not of air alone
        whole = _windows(outside & ~within, side).all(axis=1)
        found.append(np.median(_windows(plane, side)[whole], axis=1))
    values = np.concatenate(found)
    if len(values) < FEWEST_WINDOWS:
        return float("nan")
    while True:
        middle = float(np.median(values))
        spread = max(1.0, 1.4826 * float(np.median(np.abs(values - middle))))
        near = values <= middle + FAR * spread
        if near.all():
            return middle if middle > LOWEST_HU + 1 else float("nan")
        values = values[near]


def _windows(plane: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the pixels of windows that lie side by side, shape (windows, side * side); what is left over at the far borders is in none."""
    rows, columns = (n // side for n in plane.shape)
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(rows * columns, side * side)
