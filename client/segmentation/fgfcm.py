"""Fast generalised fuzzy c-means: clusters of an image averaged over neighbours that are near and alike, so that edges stay."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.volume import Volume
from client.segmentation.fuzzy_cmeans import CentresHu, CloseMm, Clusters, Fuzzifier, by_clusters
from shared_models.core.arrays import HU, Mask

BLOCK = 16
"""Slices worked on at a time, so that the shifted copies stay small."""


def fgfcm(
    volume: Volume,
    *,
    spatial: Annotated[float, Field(gt=0, le=100)] = 3.0,
    grey: Annotated[float, Field(gt=0, le=100)] = 6.0,
    clusters: Clusters = 2,
    fuzzifier: Fuzzifier = 2.0,
    close_mm: CloseMm = 2.6,
    centres_hu: CentresHu = (),
) -> Mask:
    """Return the lung mask of a chest CT by fast generalised fuzzy c-means (FGFCM): 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    spatial, grey : float
        How slowly a neighbour's weight falls with its distance and with its difference in grey value.
    clusters, fuzzifier, close_mm, centres_hu
        As in `fuzzy_cmeans`.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``.

    Notes
    -----
    Cai, Chen & Zhang, "Fast and robust fuzzy c-means clustering algorithms incorporating local information for image segmentation", Pattern
    Recognition 2007, equations 11 to 16.
    """
    return by_clusters(volume, lambda hu: fgfcm_image(hu, spatial=spatial, grey=grey), clusters, fuzzifier, close_mm, centres_hu)


def fgfcm_image(hu: HU, *, spatial: float = 3.0, grey: float = 6.0) -> HU:
    """Return the mean of each voxel's eight neighbours in the slice, weighted by ``exp(-distance / spatial - (x_j - x_i)^2 / (grey s_i^2))``.

    ``s_i^2`` is the mean square of the differences around voxel i, and distance the larger of the two steps; the voxel itself has no weight,
    as in the paper, where a lone noisy voxel then takes its neighbours' value.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Grey values.

    Examples
    --------
    >>> spike = np.zeros((1, 3, 3), np.float32)
    >>> spike[0, 1, 1] = 8
    >>> float(fgfcm_image(spike)[0, 1, 1])
    0.0
    """
    out = np.empty_like(hu, dtype=np.float32)
    shifts = [(y, x) for y in (0, 1, 2) for x in (0, 1, 2) if (y, x) != (1, 1)]
    rows, columns = hu.shape[1:]
    near = np.float32(np.exp(-1.0 / spatial))
    for first in range(0, len(hu), BLOCK):
        part = hu[first : first + BLOCK].astype(np.float32)
        padded = np.pad(part, ((0, 0), (1, 1), (1, 1)), mode="edge")
        others = [padded[:, y : y + rows, x : x + columns] for y, x in shifts]
        spread = sum(np.square(other - part) for other in others) / np.float32(len(shifts))
        scale = np.float32(grey) * np.maximum(spread, np.float32(1e-6))
        total, weight = np.zeros_like(part), np.zeros_like(part)
        for other in others:
            alike = near * np.exp(-np.square(other - part) / scale)
            total += alike * other
            weight += alike
        out[first : first + BLOCK] = total / weight
    return out
