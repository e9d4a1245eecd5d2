"""Local binary patterns: how often each rotation-invariant uniform pattern of brighter and darker neighbours occurs (Ojala et al. 2002)."""

from __future__ import annotations

import math

import numpy as np
from skimage.feature import local_binary_pattern

from client.cases.prepared import Prepared
from client.features.roi import Side
from client.features.slices import SliceCount, lung_slices
from client.segmentation.components import Bits, erode

RINGS = ((8, 1), (16, 2))
"""(points, radius in voxels) of each ring."""


def lbp_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `lbp` in order: for P points, the patterns with 0 to P brighter ones in a row, then all that are not uniform.

    Examples
    --------
    >>> len(lbp_names()), lbp_names()[9], lbp_names(side="left")[0]
    (28, 'lbp8_other', 'left_lbp8_0')
    """
    before = "" if side == "whole" else f"{side}_"
    return tuple(f"{before}lbp{points}_{code if code <= points else 'other'}" for points, _ in RINGS for code in range(points + 2))


def lbp(prepared: Prepared, *, side: Side = "whole", slices: SliceCount = 16) -> dict[str, float]:
    """Return the share of each pattern among the lung's voxels, over slices at even steps.

    A neighbour counts as brighter when it is at least as bright as the centre, so the shares do not change with any rising function of HU.
    Patterns that reach beyond the lung are left out: voxels within `radius` + 1 of its border.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    slices : int
        How many slices.

    Returns
    -------
    dict
        Keys of `lbp_names`; the shares of one ring add up to 1. NaN where no voxel is deep enough.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    counts = [np.zeros(points + 2, np.int64) for points, _ in RINGS]
    for hu, mask in lung_slices(prepared, side, slices):
        picture = np.rint(hu).astype(np.int32)
        for number, (points, radius) in enumerate(RINGS):
            deep = _deep(mask, radius + 1)
            if deep.any():
                codes = local_binary_pattern(picture, points, radius, method="uniform")
                counts[number] += np.bincount(codes[deep].astype(np.intp), minlength=points + 2)
    shares = [float(c) / float(ring.sum()) if ring.any() else math.nan for ring in counts for c in ring]
    return dict(zip(lbp_names(side=side), shares, strict=True))


def _deep(mask: Bits, reach: int) -> Bits:
    return erode(mask, np.ones((2 * reach + 1, 2 * reach + 1), bool))
