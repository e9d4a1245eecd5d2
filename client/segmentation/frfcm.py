"""Fast and robust fuzzy c-means: clusters of an image smoothed by morphological reconstruction, memberships smoothed by a median."""

from __future__ import annotations

import functools
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from client.cases.volume import Volume
from client.segmentation.components import Bits
from client.segmentation.fuzzy_cmeans import (
    LEVELS_HU,
    LOWEST_HU,
    CentresHu,
    CloseMm,
    Clusters,
    Fuzzifier,
    border_hu,
    by_clusters,
    clustered,
    nearest_cluster,
)
from shared_models.blocks.fuzzy import Doubles, FuzzyFit, memberships
from shared_models.core.arrays import HU, Mask

MOST_PASSES = 32
"""Passes of the reconstruction; what it has not reached by then stays smoothed."""


def frfcm(
    volume: Volume,
    *,
    radius: Annotated[int, Field(ge=1, le=5)] = 1,
    clusters: Clusters = 2,
    fuzzifier: Fuzzifier = 2.0,
    close_mm: CloseMm = 2.6,
    centres_hu: CentresHu = (),
) -> Mask:
    """Return the lung mask of a chest CT by fast and robust fuzzy c-means (FRFCM): 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    radius : int
        Of the disc that dots and holes are measured by, and half the width of the median, voxels of the coarse grid.
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
    Lei et al., "Significantly fast and robust fuzzy c-means clustering algorithm based on morphological reconstruction and membership
    filtering", IEEE Trans Fuzzy Syst 2018.
    """
    air = functools.partial(_is_air, radius=radius, fuzzifier=fuzzifier)
    return by_clusters(volume, lambda hu: frfcm_image(hu, radius=radius), clusters, fuzzifier, close_mm, centres_hu, air)


def frfcm_image(hu: HU, *, radius: int = 1) -> HU:
    """Return the image closed by reconstruction after it was opened by reconstruction, slice by slice: dots and holes go, edges stay.

    Examples
    --------
    >>> spike = np.zeros((1, 5, 5), np.float32)
    >>> spike[0, 2, 2] = 8
    >>> float(frfcm_image(spike).max())
    0.0
    """
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = ((y**2 + x**2) <= radius**2)[None]
    out = np.empty_like(hu, dtype=np.float32)
    for z in range(len(hu)):
        image = hu[z : z + 1]
        opened = _reconstructed(np.asarray(ndimage.grey_erosion(image, footprint=disc), np.float32), image)
        out[z] = -_reconstructed(-np.asarray(ndimage.grey_dilation(opened, footprint=disc), np.float32), -opened)[0]
    return out


def frfcm_labels(hu: HU, *, radius: int = 1, clusters: int = 3, fuzzifier: float = 2.0, inside: Bits | None = None) -> Mask:
    """Return the cluster of each voxel, counted from 0 at the lowest centre, after the median of the memberships.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Grey values.
    inside : ndarray of bool, shape (z, y, x), optional
        The voxels that the clusters are fitted to; all of them by default.
    """
    image = frfcm_image(hu, radius=radius)
    fit = clustered(image if inside is None else image[inside], clusters, fuzzifier)
    table = memberships(LEVELS_HU, fit.centres, fuzzifier=fuzzifier)
    median = np.stack([_smoothed(image, table[k], radius) for k in range(clusters)])
    return np.where(median.max(axis=0) > 0, median.argmax(axis=0), nearest_cluster(image, fit)).astype(np.uint8)


def _is_air(image: HU, fit: FuzzyFit, radius: int, fuzzifier: float) -> Bits:
    # the memberships of all clusters below the border, together, after their median
    table = memberships(LEVELS_HU, fit.centres, fuzzifier=fuzzifier)[fit.centres < border_hu(fit)].sum(axis=0)
    air = np.empty(image.shape, bool)
    for z in range(len(image)):
        air[z] = _smoothed(image[z : z + 1], table, radius)[0] > 0.5
    return air


def _smoothed(image: HU, table: Doubles, radius: int) -> HU:
    member = table.astype(np.float32)[np.rint(np.clip(image, LEVELS_HU[0], LEVELS_HU[-1])).astype(np.int16) - LOWEST_HU]
    return np.asarray(ndimage.median_filter(member, size=(1, 2 * radius + 1, 2 * radius + 1)), np.float32)


def _reconstructed(marker: HU, under: HU) -> HU:
    # reconstruction by dilation (Vincent 1993): the marker grows under the image, pixel by pixel, until nothing changes
    for _ in range(MOST_PASSES):
        grown = marker.copy()
        for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
            np.maximum(grown[here], marker[there], out=grown[here])
            np.maximum(grown[there], marker[here], out=grown[there])
        np.minimum(grown, under, out=grown)
        if np.array_equal(grown, marker):
            break
        marker = grown
    return marker
