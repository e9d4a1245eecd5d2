"""A bank of Gabor filters: how strongly the lung's texture answers at each wavelength and orientation (Daugman 1985; Jain, Farrokhnia 1991)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from client.cases.prepared import Prepared
from client.features.roi import Side
from client.features.slices import SliceCount, lung_slices
from client.segmentation.components import Bits

WAVELENGTHS_MM = (5.0, 8.0, 12.5, 20.0)
"""From the cysts of honeycombing to lobules; anything shorter than two voxels cannot answer and is 0."""

ORIENTATIONS = 6
OCTAVES = 1.0
"""Width of the passband at half its height."""


def gabor_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `gabor` in order.

    Examples
    --------
    >>> len(gabor_names()), gabor_names()[0], gabor_names()[-1]
    (48, 'gabor_5mm_0deg_mean_hu', 'gabor_20mm_150deg_sd_hu')
    """
    before = "" if side == "whole" else f"{side}_"
    return tuple(
        f"{before}gabor_{wavelength:g}mm_{180 * turn // ORIENTATIONS}deg_{measure}_hu"
        for wavelength in WAVELENGTHS_MM
        for turn in range(ORIENTATIONS)
        for measure in ("mean", "sd")
    )


def gabor(prepared: Prepared, *, side: Side = "whole", slices: SliceCount = 16) -> dict[str, float]:
    """Return mean and standard deviation over the lung of the amplitude of each filter's answer, HU.

    The filters are complex Gaussians about one spatial frequency, so the amplitude does not depend on the phase of a texture. Angles are
    those of the direction in which a texture repeats: 0 along the rows (x), 90 along the columns (y). Outside the lung each slice is at
    the lung's mean, from which the answer is taken.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    slices : int
        How many slices, at even steps over the height of the lung.

    Returns
    -------
    dict
        Keys of `gabor_names`; NaN for an empty region.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    _, dy, dx = prepared.volume.spacing_mm
    filters = WAVELENGTHS_MM, [math.pi * turn / ORIENTATIONS for turn in range(ORIENTATIONS)]
    sums, squares, voxels = (np.zeros(len(WAVELENGTHS_MM) * ORIENTATIONS) for _ in range(3))
    for hu, mask in lung_slices(prepared, side, slices):
        answers = amplitudes(hu, mask, (dy, dx), *filters)
        for number, answer in enumerate(answers):
            inside = answer[mask]
            sums[number] += inside.sum()
            squares[number] += inside @ inside
            voxels[number] += len(inside)
    if not voxels[0]:
        return dict.fromkeys(gabor_names(side=side), math.nan)
    mean = sums / voxels
    sd = np.sqrt(np.maximum(squares / voxels - mean**2, 0.0))
    return dict(zip(gabor_names(side=side), (float(v) for pair in zip(mean, sd, strict=True) for v in pair), strict=True))


def amplitudes(
    hu: NDArray[np.floating], mask: Bits, spacing_mm: tuple[float, float], wavelengths_mm: tuple[float, ...], angles: list[float]
) -> list[NDArray[np.float64]]:
    """Return the amplitude of each filter's answer, wavelength by wavelength and angle by angle, shape (y, x) each.

    A wave of the filter's own wavelength and direction and of amplitude A answers with A.

    Examples
    --------
    >>> wave = 100 * np.cos(2 * np.pi * np.arange(64) / 8) * np.ones((64, 1))
    >>> along, across = amplitudes(wave, np.ones(wave.shape, bool), (1.0, 1.0), (8.0,), [0.0, np.pi / 2])
    >>> round(float(along[32, 32]), 1), round(float(across[32, 32]), 1)
    (100.0, 0.0)
    """
    margins = [math.ceil(max(wavelengths_mm) / step) for step in spacing_mm]
    size = [fft.next_fast_len(n + margin) for n, margin in zip(mask.shape, margins, strict=True)]
    centred = np.where(mask, hu - hu[mask].mean(dtype=np.float64), 0.0)
    spectrum = fft.fft2(centred, size)
    fy, fx = (fft.fftfreq(n, step) for n, step in zip(size, spacing_mm, strict=True))
    found = []
    for wavelength in wavelengths_mm:
        too_short = wavelength < 2 * max(spacing_mm)
        # a Gaussian passband that falls to a half at `OCTAVES` in all: sigma from the ratio of its two half-height frequencies
        ratio = 2**OCTAVES
        sigma = (ratio - 1) / (ratio + 1) / math.sqrt(2 * math.log(2)) / wavelength
        for angle in angles:
            if too_short:
                found.append(np.zeros(mask.shape))
                continue
            off = (fx[None] - math.cos(angle) / wavelength) ** 2 + (fy[:, None] - math.sin(angle) / wavelength) ** 2
            answer = fft.ifft2(spectrum * (2 * np.exp(-off / (2 * sigma**2))))
            found.append(np.abs(np.asarray(answer))[: mask.shape[0], : mask.shape[1]])
    return found
