"""Neighbouring grey tone difference matrix (Amadasun and King 1989; IBSI reference manual 3.10; names as in pyradiomics)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.features.grey_levels import BinWidth, GreyLevels, grey_levels
from client.features.roi import Side, columns, named

MEASURES = ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")
"""Names as in pyradiomics; their formulas stand in `describe_differences`."""

LARGEST_COARSENESS = 1e6
"""Coarseness of a region without any difference, as in the paper's own remedy against a division by 0."""


def ngtdm_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `ngtdm` in order.

    Examples
    --------
    >>> ngtdm_names()[0]
    'original_ngtdm_Busyness'
    """
    return columns("ngtdm", MEASURES, side)


def ngtdm(prepared: Prepared, *, side: Side = "whole", bin_width_hu: BinWidth = 25.0, force_2d: bool = False) -> dict[str, float]:
    """Return the grey tone difference features of the lung; parameters and refusals as for `glcm`.

    Returns
    -------
    dict
        Keys of `ngtdm_names`; NaN for an empty region.
    """
    grey = grey_levels(prepared, side, bin_width_hu)
    if not len(grey.values):
        return named("ngtdm", MEASURES, side, None)
    return named("ngtdm", MEASURES, side, describe_differences(*tone_differences(grey, force_2d=force_2d)))


def tone_differences(grey: GreyLevels, *, force_2d: bool = False) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return, for each grey level from 1 on, its voxels n and the sum s of |level - mean of a voxel's neighbours in the region|.

    A voxel without neighbours counts in n and adds 0 to s. Sums over the 26 neighbours are box sums, one axis after the other.

    Examples
    --------
    >>> from client.features.grey_levels import discretised
    >>> row = discretised(np.array([[[0, 0, 25]]], np.float32), np.ones((1, 1, 3), bool), 25.0)
    >>> [part.tolist() for part in tone_differences(row)]
    [[2, 1], [0.5, 1.0]]
    """
    levels = _box_sums(grey.grid.astype(np.uint16 if grey.highest * 27 < 2**16 else np.uint32), force_2d).ravel()[grey.inside]
    members = _box_sums((grey.grid > 0).astype(np.uint8), force_2d).ravel()[grey.inside]
    around, others = levels - grey.values, members.astype(np.intp) - 1
    difference = np.abs(grey.values - around / np.maximum(others, 1)) * (others > 0)
    return np.bincount(grey.values)[1:], np.bincount(grey.values, difference)[1:].astype(np.float64)


def _box_sums(grid: NDArray[np.unsignedinteger], flat: bool) -> NDArray[np.unsignedinteger]:
    # the border of the grid is empty, so what is left out at the ends is 0
    for axis in (2, 1) if flat else (2, 1, 0):
        here = np.moveaxis(grid, axis, 0)
        total = grid.copy()
        there = np.moveaxis(total, axis, 0)
        there[1:] += here[:-1]
        there[:-1] += here[1:]
        grid = total
    return grid


def describe_differences(n: NDArray[np.intp], s: NDArray[np.float64]) -> dict[str, float]:
    """Return the features of a grey tone difference matrix.

    With N = sum n, p = n / N, i and j over the G levels that occur: ``Coarseness`` 1 / sum p s; ``Contrast`` (sum p_i p_j (i - j)^2 /
    (G (G - 1))) (sum s / N); ``Busyness`` sum p s / sum |i p_i - j p_j|; ``Complexity`` sum |i - j| (p_i s_i + p_j s_j) / (p_i + p_j) / N;
    ``Strength`` sum (p_i + p_j) (i - j)^2 / sum s. Where a divisor is 0, the feature is 0, and coarseness 10^6.

    Parameters
    ----------
    n, s : ndarray, shape (level,)
        Voxels, and sum of differences, of each grey level from 1 on.

    Examples
    --------
    >>> describe_differences(np.array([2, 1]), np.array([0.5, 1.0]))["Coarseness"]
    1.5
    """
    used = n > 0
    i = np.flatnonzero(used) + 1.0
    total = float(n.sum())
    p, s = n[used] / total, s[used]
    ps = p * s
    levels = len(i)
    apart = np.abs(i[:, None] - i)
    busy = float(np.abs((i * p)[:, None] - i * p).sum())
    spread = float(p @ apart**2 @ p) / (levels * (levels - 1)) if levels > 1 else 0.0
    return {
        "Busyness": float(ps.sum()) / busy if busy > 0 else 0.0,
        "Coarseness": 1 / float(ps.sum()) if ps.sum() > 0 else LARGEST_COARSENESS,
        "Complexity": float((apart * (ps[:, None] + ps) / (p[:, None] + p)).sum()) / total,
        "Contrast": spread * float(s.sum()) / total,
        "Strength": float(((p[:, None] + p) * apart**2).sum()) / float(s.sum()) if s.sum() > 0 else 0.0,
    }
