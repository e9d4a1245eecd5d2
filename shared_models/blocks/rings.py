"""What lies where in a patch: signatures of its middle, and histograms of rings around it; the middle is the place that a label speaks of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from shared_models.blocks.signature import HU_RANGE, root_histogram, texture_signature

RINGS_PX = (0.0, 5.0, 10.0, 16.0, 30.0)
"""Borders of the rings, pixels from the middle; a patch of 31 x 31 ends at 15, and its corners are the last ring."""
SMOOTHING_PX = (0.0, 1.6)
BINS = 30
MIDDLES_PX = (19, 13)
"""Edges of the middles whose texture is described once more."""
MIDDLE_SCALES = (0.88, 0.83)
RING_SCALE = 2.81
"""By which middles and rings are multiplied: the median distance of two patches is then that by the signature of the whole patch."""


def ring_histograms(hu: np.ndarray) -> np.ndarray:
    """Return root histograms of HU in rings around the middle of patches, as they are and smoothed.

    A whole patch's histogram tells how much of it is how dark, rings also where: a reader names the middle, and the border of the lung or a
    neighbouring lobule lies outside. Neither quarter turns nor mirroring change them. All rings weigh the same, whatever their area; a ring beyond
    the border of a small patch is all zeros.

    Parameters
    ----------
    hu : ndarray, shape (n, y, x)
        Hounsfield units.

    Returns
    -------
    ndarray of float64, shape (n, 240)

    Examples
    --------
    >>> patches = np.random.default_rng(0).normal(-880, 40, (2, 31, 31))
    >>> found = ring_histograms(patches)
    >>> found.shape, bool(np.allclose(found, ring_histograms(np.rot90(patches, axes=(1, 2)))))
    ((2, 240), True)
    """
    from scipy import ndimage

    image = np.asarray(hu, np.float64)
    y, x = (np.arange(size) - (size - 1) / 2 for size in image.shape[1:])
    distance_px = np.hypot(y[:, None], x)
    inside = [(distance_px >= near) & (distance_px < far) for near, far in pairwise(RINGS_PX)]
    parts = []
    for sigma in SMOOTHING_PX:
        smooth = ndimage.gaussian_filter(image, (0, sigma, sigma)) if sigma else image
        parts += [root_histogram(smooth[:, ring], *HU_RANGE, BINS) if ring.any() else np.zeros((len(image), BINS)) for ring in inside]
    return np.concatenate(parts, axis=1) / np.sqrt(len(parts))


def placed_signature(hu: np.ndarray) -> np.ndarray:
    """Return the texture signature of patches, that of their middles, and their rings: what is there, and where.

    Each part is scaled so that two patches drawn at random are about as far apart by it as by the signature of the whole patch.

    Parameters
    ----------
    hu : ndarray, shape (n, y, x)
        Hounsfield units; of a patch smaller than a middle the whole is taken.

    Returns
    -------
    ndarray of float64, shape (n, 1683)

    Examples
    --------
    >>> placed_signature(np.full((1, 9, 9), -900.0)).shape
    (1, 1683)
    """
    middles = [texture_signature(middle_of(hu, edge)) * scale for edge, scale in zip(MIDDLES_PX, MIDDLE_SCALES, strict=True)]
    return np.concatenate([texture_signature(hu), *middles, ring_histograms(hu) * RING_SCALE], axis=1)


def middle_of(hu: np.ndarray, edge: int) -> np.ndarray:
    """Return the middle `edge` x `edge` pixels of patches (n, y, x), or as many as there are.

    Examples
    --------
    >>> middle_of(np.arange(25).reshape(1, 5, 5), 3)[0].tolist()
    [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    """
    y, x = ((size - min(edge, size)) // 2 for size in hu.shape[1:])
    return hu[:, y : y + edge, x : x + edge]
