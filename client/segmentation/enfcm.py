"""Enhanced fuzzy c-means: clusters of an image in which each voxel is mixed with the mean of its neighbours."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from client.cases.volume import Volume
from client.segmentation.fuzzy_cmeans import CentresHu, CloseMm, Clusters, Fuzzifier, by_clusters
from shared_models.core.arrays import HU, Mask


def enfcm(
    volume: Volume,
    *,
    mixing: Annotated[float, Field(ge=0, le=100)] = 3.8,
    clusters: Clusters = 2,
    fuzzifier: Fuzzifier = 2.0,
    close_mm: CloseMm = 2.6,
    centres_hu: CentresHu = (),
) -> Mask:
    """Return the lung mask of a chest CT by enhanced fuzzy c-means (EnFCM): 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    mixing : float
        Weight of the neighbours' mean; with 0 this is `fuzzy_cmeans`.
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
    Szilagyi et al., "MR brain image segmentation using an enhanced fuzzy c-means algorithm", EMBC 2003.
    """
    return by_clusters(volume, lambda hu: enfcm_image(hu, mixing=mixing), clusters, fuzzifier, close_mm, centres_hu)


def enfcm_image(hu: HU, *, mixing: float = 3.8) -> HU:
    """Return ``(x + a mean) / (1 + a)``, the mean over the eight neighbours in the slice.

    Examples
    --------
    >>> spike = np.zeros((1, 3, 3), np.float32)
    >>> spike[0, 1, 1] = 8
    >>> enfcm_image(spike, mixing=1.0)[0, 1].tolist()
    [0.5, 4.0, 0.5]
    """
    around = np.full((1, 3, 3), 1 / 8, np.float32)
    around[0, 1, 1] = 0
    mean = np.empty_like(hu)
    ndimage.convolve(hu, around, output=mean, mode="nearest")
    mean *= mixing
    mean += hu
    mean /= 1 + mixing
    return mean
