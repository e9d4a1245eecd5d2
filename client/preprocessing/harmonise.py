"""Harmonise kernels: every scan as the common target would have shown it, as far as it holds the detail."""

from __future__ import annotations

import functools
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from client.cases.prepared import Prepared
from client.preprocessing.noise import SIDE_MM, lower_noise, measure_noise
from client.preprocessing.planes import Plane, each_slice
from client.preprocessing.sharpness import Sharpness, measure_sharpness
from shared_models.core.errors import BadInput

DAMPING = 0.05
"""Transfer below which a measured value is mostly error: such frequencies are taken out rather than divided by it."""

NEAR, MOST_PASSES = 1.1, 4
"""Noise within this factor of the target is left alone; passes that lower it."""


def harmonise(
    prepared: Prepared,
    *,
    mtf50_per_mm: Annotated[float, Field(gt=0.02, le=1)] = 0.25,
    noise_hu: Annotated[float, Field(gt=0, le=100)] | None = None,
) -> Prepared:
    """Return the image with the sharpness, and the noise, of the federation's common target; still Hounsfield units.

    1. The scan's own transfer function is measured at the lung border (`client/preprocessing/sharpness`). 2. Each slice is filtered by
    ``target / own`` with the Gaussian target ``2^-(f / mtf50)^2``, and never sharpened: frequencies that the scan lacks stay missing, so the
    target must be as soft as the softest scan. 3. With `noise_hu`, what noise is left above it in soft tissue is taken out of the local variance.

    Air and mean density stay what they are: the filter leaves the mean of every slice alone. Density features are taken after this step.

    Parameters
    ----------
    prepared : Prepared
        Hounsfield units, shape (z, y, x).
    mtf50_per_mm : float
        Frequency at which the target's edge transfer is one half, 1/mm, as `measure_sharpness` gives it.
    noise_hu : float, optional
        Standard deviation of the target's noise in soft tissue, HU. Noise is only ever lowered.

    Raises
    ------
    BadStudy
        ``NO_EDGES``: the scan shows too little lung border to tell its sharpness.
    BadInput
        The intensities were changed before.

    References
    ----------
    Gallardo-Estrella et al., Normalizing CT data reconstructed with different filter kernels, Eur Radiol 2016 (frequency bands to a common
    reference); here the bands' gains come from edges and not from the lung's texture, which disease changes.

    Examples
    --------
    >>> from scipy.ndimage import gaussian_filter
    >>> from client.cases.volume import Volume
    >>> y, x = np.mgrid[:160, :160] * 0.7
    >>> sharp = gaussian_filter(np.where(np.hypot(y - 56.1, x - 55.8) < 40, -850.0, 40.0), 0.8)
    >>> study = Prepared(Volume(np.repeat(sharp[None], 4, axis=0).astype(np.float32), (1, 0.7, 0.7)))
    >>> 0.18 < measure_sharpness(harmonise(study, mtf50_per_mm=0.2).volume).mtf50_per_mm < 0.22
    True
    """
    if not prepared.is_hu:
        raise BadInput("harmonise needs Hounsfield units", value="an image whose intensities were changed", remedy="harmonise before such a step")
    volume = prepared.volume
    gain = gain_of(measure_sharpness(volume), mtf50_per_mm)
    _, rows, columns = volume.hu.shape
    _, dy, dx = volume.spacing_mm
    # wave k of a cosine transform of n pixels has a period of 2n / k pixels
    radius = np.hypot(np.arange(rows)[:, None] / (2 * rows * dy), np.arange(columns) / (2 * columns * dx))
    factor = np.interp(radius, *gain, right=0.0).astype(np.float32)
    matched = each_slice(prepared, lambda plane: filtered(plane, factor), is_hu=True)
    if noise_hu is None:
        return matched
    side = 2 * round(SIDE_MM / max(dy, dx) / 2) + 1
    for _ in range(MOST_PASSES):  # the most even windows tell less than all noise, so one pass seldom takes out enough
        left_hu = measure_noise(matched.volume)
        if not left_hu > NEAR * noise_hu:  # nor when it cannot be told
            break
        matched = each_slice(matched, functools.partial(lower_noise, noise_hu=left_hu, target_hu=noise_hu, side=side), is_hu=True)
    return matched


def gain_of(own: Sharpness, mtf50_per_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies (1/mm) and the factor of each that takes a scan of this sharpness to the target: from 1 at 0 downwards, never rising.

    Examples
    --------
    >>> per_mm = np.linspace(0, 1, 5)
    >>> gain_of(Sharpness(per_mm, np.array([1, 1, 0.5, 0.25, 0.1]), 50), 0.25)[1].round(3).tolist()
    [1.0, 0.5, 0.124, 0.008, 0.0]
    """
    target = 2.0 ** -np.square(own.per_mm / mtf50_per_mm)
    factor = target * own.transfer / (np.square(own.transfer) + DAMPING**2)
    return own.per_mm, np.minimum.accumulate(np.minimum(factor * (1 + DAMPING**2), 1.0))


def filtered(plane: Plane, factor: Plane) -> Plane:
    """Return a slice with each of its cosine waves times `factor`, shape (y, x): a filter that sees the slice mirrored at its border.

    Examples
    --------
    >>> filtered(np.array([[1, 3], [5, 7]], np.float32), np.array([[1, 0], [0, 0]], np.float32)).tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """
    waves = np.asarray(fft.dctn(plane, type=2))
    waves *= factor
    return np.asarray(fft.idctn(waves, type=2, overwrite_x=True), np.float32)
