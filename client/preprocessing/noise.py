"""Noise of a scan, measured in soft tissue, and lowered to a common level."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from client.cases.volume import Volume
from client.preprocessing.planes import Plane
from client.preprocessing.wiener import local_moments

SIDE_MM = 8.0
"""Edge of the windows: longer than noise is correlated, shorter than a muscle is thick."""
TISSUE_HU = (0.0, 90.0)
"""Mean of a window that holds blood, muscle or liver alone."""
EVEN_SHARE = 0.1
"""The most even tenth of the windows tells the noise; the others hold edges as well."""
SLICES, FEWEST_WINDOWS = 12, 200


def measure_noise(volume: Volume) -> float:
    """Return the standard deviation of the noise in soft tissue, HU: the tenth percentile over windows of 8 mm in the plane.

    NaN where there are too few such windows.

    References
    ----------
    Christianson et al., Automated technique to measure noise in clinical CT examinations, AJR 2015 (a global noise level from local deviations).

    Examples
    --------
    >>> flat = np.random.default_rng(0).normal(40, 10, (3, 80, 80)).astype(np.float32)
    >>> 8.5 < measure_noise(Volume(flat, (1, 1, 1))) < 10.5
    True
    """
    side = max(5, round(SIDE_MM / max(volume.spacing_mm[1:])))
    found = []
    for z in np.unique(np.rint(np.linspace(0, len(volume.hu) - 1, SLICES)).astype(int)):
        plane = np.clip(volume.hu[z], -1024, 300).astype(np.float32)
        mean, variance = local_moments(plane, side)
        tissue = (mean > TISSUE_HU[0]) & (mean < TISSUE_HU[1])
        found.append(variance[::2, ::2][tissue[::2, ::2]])
    variances = np.concatenate(found)
    if len(variances) < FEWEST_WINDOWS:
        return float("nan")
    return float(np.sqrt(np.quantile(variances, EVEN_SHARE)))


def lower_noise(plane: Plane, noise_hu: float, target_hu: float, side: int) -> Plane:
    """Return a slice whose local variance is lower by ``noise^2 - target^2``, and nowhere below ``target^2`` on account of it.

    Deviations from the local mean over `side` x `side` pixels shrink by ``sqrt(max(v - excess, target^2) / v)``: even tissue gets the noise
    that was asked for, and texture keeps its own variance, which a plain average would take away with the noise.

    Examples
    --------
    >>> noisy = np.random.default_rng(0).normal(0, 20, (64, 64)).astype(np.float32)
    >>> bool(9 < lower_noise(noisy, 20.0, 10.0, 9).std() < 11.5)
    True
    """
    excess = np.float32(noise_hu**2 - target_hu**2)
    if excess <= 0:
        return plane
    mean, variance = local_moments(plane, side)
    wanted = np.minimum(np.maximum(variance - excess, np.float32(target_hu**2)), variance)
    # blurred, the factor does not draw the edges of single windows
    share = ndimage.uniform_filter(np.sqrt(wanted / np.maximum(variance, np.float32(1e-6))), side, mode="reflect")
    return np.asarray(mean + share * (plane - mean), np.float32)
