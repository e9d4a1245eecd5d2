"""Grey level dependence matrix (Sun and Wee 1983; IBSI reference manual 3.11; names as in pyradiomics).

A voxel's dependence is one more than the number of its 26 neighbours in the region whose grey level differs by at most `alpha`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.prepared import Prepared
from client.features.emphases import emphases, entries
from client.features.grey_levels import BinWidth, GreyLevels, directions, grey_levels
from client.features.roi import Side, columns, named

MEASURES = {
    "DependenceEntropy": "entropy",
    "DependenceNonUniformity": "size_uniformity",
    "DependenceNonUniformityNormalized": "size_uniformity_normalised",
    "DependenceVariance": "size_variance",
    "GrayLevelNonUniformity": "grey_uniformity",
    "GrayLevelVariance": "grey_variance",
    "HighGrayLevelEmphasis": "high_grey",
    "LargeDependenceEmphasis": "large",
    "LargeDependenceHighGrayLevelEmphasis": "large_high",
    "LargeDependenceLowGrayLevelEmphasis": "large_low",
    "LowGrayLevelEmphasis": "low_grey",
    "SmallDependenceEmphasis": "small",
    "SmallDependenceHighGrayLevelEmphasis": "small_high",
    "SmallDependenceLowGrayLevelEmphasis": "small_low",
}
"""Names as in pyradiomics to those of `client.features.emphases`, where the formulas stand; the size is a voxel's dependence."""


def gldm_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `gldm` in order.

    Examples
    --------
    >>> len(gldm_names()), gldm_names()[0]
    (14, 'original_gldm_DependenceEntropy')
    """
    return columns("gldm", tuple(MEASURES), side)


def gldm(
    prepared: Prepared,
    *,
    side: Side = "whole",
    bin_width_hu: BinWidth = 25.0,
    force_2d: bool = False,
    alpha: Annotated[int, Field(ge=0, le=100)] = 0,
) -> dict[str, float]:
    """Return the dependence features of the lung; the other parameters and refusals as for `glcm`.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask.
    side, bin_width_hu, force_2d
        As for `glcm`.
    alpha : int
        Grey levels that a dependent neighbour may differ by.

    Returns
    -------
    dict
        Keys of `gldm_names`; NaN for an empty region.
    """
    grey = grey_levels(prepared, side, bin_width_hu)
    if not len(grey.values):
        return named("gldm", tuple(MEASURES), side, None)
    found = emphases(*entries(grey.values, dependences(grey, force_2d=force_2d, alpha=alpha)))
    return named("gldm", tuple(MEASURES), side, {m: found[key] for m, key in MEASURES.items()})


def dependences(grey: GreyLevels, *, force_2d: bool = False, alpha: int = 0) -> NDArray[np.intp]:
    """Return each voxel's dependence, 1 to 27.

    Examples
    --------
    >>> from client.features.grey_levels import discretised
    >>> row = discretised(np.array([[[0, 0, 25]]], np.float32), np.ones((1, 1, 3), bool), 25.0)
    >>> dependences(row).tolist(), dependences(row, alpha=1).tolist()
    ([2, 2, 1], [2, 3, 2])
    """
    grid = grey.grid.ravel()
    found = np.ones(len(grid), np.uint8)
    for direction in directions(grey.grid.shape, flat=force_2d):
        step = grey.offset(direction)
        here, there = grid[:-step], grid[step:]
        if alpha == 0:
            alike = here == there  # pairs outside the region are counted too, and never read
        else:
            alike = (np.maximum(here, there) - np.minimum(here, there) <= alpha) & (here > 0) & (there > 0)
        found[:-step] += alike
        found[step:] += alike
    return found[grey.inside].astype(np.intp)
