"""Grey level run length matrix (Galloway 1975; IBSI reference manual 3.7; names as in pyradiomics).

A run is a line of neighbours of one grey level that goes no further either way. One matrix for each of the 13 directions; each feature is
the mean over the directions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.features.emphases import emphases
from client.features.grey_levels import BinWidth, GreyLevels, directions, grey_levels
from client.features.roi import Side, columns, named

MEASURES = {
    "GrayLevelNonUniformity": "grey_uniformity",
    "GrayLevelNonUniformityNormalized": "grey_uniformity_normalised",
    "GrayLevelVariance": "grey_variance",
    "HighGrayLevelRunEmphasis": "high_grey",
    "LongRunEmphasis": "large",
    "LongRunHighGrayLevelEmphasis": "large_high",
    "LongRunLowGrayLevelEmphasis": "large_low",
    "LowGrayLevelRunEmphasis": "low_grey",
    "RunEntropy": "entropy",
    "RunLengthNonUniformity": "size_uniformity",
    "RunLengthNonUniformityNormalized": "size_uniformity_normalised",
    "RunPercentage": "percentage",
    "RunVariance": "size_variance",
    "ShortRunEmphasis": "small",
    "ShortRunHighGrayLevelEmphasis": "small_high",
    "ShortRunLowGrayLevelEmphasis": "small_low",
}
"""Names as in pyradiomics to those of `client.features.emphases`, where the formulas stand; the size is the length of a run."""


def glrlm_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `glrlm` in order.

    Examples
    --------
    >>> len(glrlm_names()), glrlm_names()[-3]
    (16, 'original_glrlm_ShortRunEmphasis')
    """
    return columns("glrlm", tuple(MEASURES), side)


def glrlm(prepared: Prepared, *, side: Side = "whole", bin_width_hu: BinWidth = 25.0, force_2d: bool = False) -> dict[str, float]:
    """Return the run length features of the lung; parameters and refusals as for `glcm`.

    Returns
    -------
    dict
        Keys of `glrlm_names`; NaN for a region of less than two voxels along every axis.
    """
    grey = grey_levels(prepared, side, bin_width_hu)
    found = [emphases(*matrix) for matrix in run_lengths(grey, force_2d=force_2d)]
    if not found:
        return named("glrlm", tuple(MEASURES), side, None)
    return named("glrlm", tuple(MEASURES), side, {m: float(np.mean([one[key] for one in found])) for m, key in MEASURES.items()})


def run_lengths(grey: GreyLevels, *, force_2d: bool = False) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Return, for every direction, the grey levels, lengths and counts of the runs.

    Runs that have reached a length are counted level by level; what ended there is the difference to the next length. All runs of a
    direction go on together, one step at a time, and only those that do go on are looked at again.

    Examples
    --------
    >>> from client.features.grey_levels import discretised
    >>> row = discretised(np.array([[[0, 0, 25]]], np.float32), np.ones((1, 1, 3), bool), 25.0)
    >>> [part.tolist() for part in run_lengths(row)[0]]
    [[2, 1], [1, 2], [1, 1]]
    """
    flat, size = grey.grid.ravel(), grey.highest + 1
    voxels = np.bincount(grey.values, minlength=size)
    inside = flat > 0
    found = []
    for direction in directions(grey.grid.shape, flat=force_2d):
        step = grey.offset(direction)
        goes_on = np.zeros(len(flat), bool)
        np.equal(flat[:-step], flat[step:], out=goes_on[:-step])
        goes_on &= inside
        reached = [voxels - np.bincount(flat[goes_on], minlength=size)]  # every voxel begins a run, but for those that another leads to
        begins = goes_on.copy()
        begins[step:] &= ~goes_on[:-step]
        here = np.flatnonzero(begins)
        while len(here):
            reached.append(np.bincount(flat[here], minlength=size))
            here = here + step
            here = here[goes_on[here]]
        ended = np.array(reached)
        ended[:-1] -= ended[1:]
        lengths, levels = np.nonzero(ended)
        found.append((levels, lengths + 1, ended[lengths, levels]))
    return found
