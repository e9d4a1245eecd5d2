"""Grey level size zone matrix (Thibault et al. 2009; IBSI reference manual 3.8; names as in pyradiomics).

A zone is a connected component of one grey level; voxels touch by face, edge or corner.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from client.cases.prepared import Prepared
from client.features.emphases import emphases, entries
from client.features.grey_levels import BinWidth, GreyLevels, grey_levels
from client.features.roi import Side, columns, named

MEASURES = {
    "GrayLevelNonUniformity": "grey_uniformity",
    "GrayLevelNonUniformityNormalized": "grey_uniformity_normalised",
    "GrayLevelVariance": "grey_variance",
    "HighGrayLevelZoneEmphasis": "high_grey",
    "LargeAreaEmphasis": "large",
    "LargeAreaHighGrayLevelEmphasis": "large_high",
    "LargeAreaLowGrayLevelEmphasis": "large_low",
    "LowGrayLevelZoneEmphasis": "low_grey",
    "SizeZoneNonUniformity": "size_uniformity",
    "SizeZoneNonUniformityNormalized": "size_uniformity_normalised",
    "SmallAreaEmphasis": "small",
    "SmallAreaHighGrayLevelEmphasis": "small_high",
    "SmallAreaLowGrayLevelEmphasis": "small_low",
    "ZoneEntropy": "entropy",
    "ZonePercentage": "percentage",
    "ZoneVariance": "size_variance",
}
"""Names as in pyradiomics to those of `client.features.emphases`, where the formulas stand; the size is the number of voxels of a zone."""


def glszm_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `glszm` in order.

    Examples
    --------
    >>> len(glszm_names()), glszm_names()[-2]
    (16, 'original_glszm_ZonePercentage')
    """
    return columns("glszm", tuple(MEASURES), side)


def glszm(prepared: Prepared, *, side: Side = "whole", bin_width_hu: BinWidth = 25.0, force_2d: bool = False) -> dict[str, float]:
    """Return the size zone features of the lung; parameters and refusals as for `glcm`. With `force_2d` a zone ends at its slice.

    Returns
    -------
    dict
        Keys of `glszm_names`; NaN for an empty region.
    """
    grey = grey_levels(prepared, side, bin_width_hu)
    if not len(grey.values):
        return named("glszm", tuple(MEASURES), side, None)
    found = emphases(*entries(*zones(grey, force_2d=force_2d)))
    return named("glszm", tuple(MEASURES), side, {m: found[key] for m, key in MEASURES.items()})


def zones(grey: GreyLevels, *, force_2d: bool = False) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return grey level and size of every zone.

    Examples
    --------
    >>> from client.features.grey_levels import discretised
    >>> row = discretised(np.array([[[0, 0, 25]]], np.float32), np.ones((1, 1, 3), bool), 25.0)
    >>> [part.tolist() for part in zones(row)]
    [[1, 2], [2, 1]]
    """
    grid = grey.grid
    if force_2d:  # an empty slice between any two keeps their zones apart
        grid = np.zeros((2 * grey.grid.shape[0], *grey.grid.shape[1:]), grey.grid.dtype)
        grid[::2] = grey.grid
    labels = np.asarray(label(grid, background=0, connectivity=3))
    found = labels.ravel() if not force_2d else labels[::2].ravel()
    own = found[grey.inside]
    sizes = np.bincount(own)[1:]
    levels = np.zeros(len(sizes) + 1, np.intp)
    levels[own] = grey.values
    return levels[1:], sizes
