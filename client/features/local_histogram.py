"""Texture map by local histograms and distance to the pleura: how much of the lung, at which depth, looks like which pattern.

Each place's histogram over a window of about 9 mm is compared with those of six patterns. This is the idea of CALIPER (exemplar
histograms) and of the local histograms with pleural distance of Ash et al. 2017, with stated mixtures in place of exemplars from patients:
no part of a patient travels in the code. The classes are those of histograms, not of a reader.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from client.cases.prepared import Prepared
from client.features.pleura import SHELLS, depth_mm, shell_numbers
from client.features.roi import hu_of, side_mask
from client.segmentation.components import bounding_box

PATTERNS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "hyperlucent": ((1.0, -965.0, 25.0),),
    "normal": ((0.96, -830.0, 50.0), (0.04, -300.0, 200.0)),
    "ground_glass": ((0.97, -635.0, 70.0), (0.03, -100.0, 150.0)),
    "reticular": ((0.7, -710.0, 80.0), (0.3, -330.0, 120.0)),
    "honeycomb": ((0.55, -930.0, 50.0), (0.45, -250.0, 180.0)),
    "consolidated": ((1.0, 0.0, 60.0),),
}
"""Name to its mixture of normal distributions: (share, mean HU, SD HU). Means and spreads after the glossary of the Fleischner Society as
the design's phantom has them: ground glass raises the lung by about 200 HU, lines and walls are -150 to -10 HU, cysts below -900."""

EDGES_HU = np.linspace(-1050.0, 150.0, 33)
"""32 bins; what lies beyond falls into the outermost."""

BLOCK_MM = 3.0
"""The map's own grid; a window is three blocks along each axis."""


def local_histogram_names() -> tuple[str, ...]:
    """Return the columns of `local_histogram` in order.

    Examples
    --------
    >>> len(local_histogram_names()), local_histogram_names()[0], local_histogram_names()[-1]
    (30, 'hyperlucent_texture_ml', 'central_consolidated_texture_percent')
    """
    return (
        *(f"{pattern}_texture_ml" for pattern in PATTERNS),
        *(f"{pattern}_texture_percent" for pattern in PATTERNS),
        *(f"{shell}_{pattern}_texture_percent" for shell in SHELLS for pattern in PATTERNS),
    )


def local_histogram(prepared: Prepared) -> dict[str, float]:
    """Return volume and percentage of the lung of each pattern, and its percentage of each depth shell.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).

    Returns
    -------
    dict
        Keys of `local_histogram_names`; the percentages of the lung, and of each shell, add up to 100. NaN where a region is empty.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    hu, lung = hu_of(prepared), side_mask(prepared)
    if prepared.mask is None or not lung.any():
        return {name: 0.0 if name.endswith("_ml") else math.nan for name in local_histogram_names()}
    box = bounding_box(lung)
    labels, inside = prepared.mask[box], lung[box]
    patterns = texture_map(hu[box], inside, prepared.volume.spacing_mm)
    shells = shell_numbers(depth_mm(labels, prepared.volume.spacing_mm)[inside])
    counts = np.bincount(shells * len(PATTERNS) + patterns, minlength=len(SHELLS) * len(PATTERNS)).reshape(len(SHELLS), len(PATTERNS))
    whole = counts.sum(axis=0)
    parts = [whole, *counts]
    percent = [100.0 * float(c) / float(part.sum()) if part.any() else math.nan for part in parts for c in part]
    return dict(zip(local_histogram_names(), [*(whole * prepared.volume.voxel_ml).tolist(), *percent], strict=True))


def texture_map(hu: NDArray[np.floating], mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.intp]:
    """Return, for each voxel of the mask, the number in `PATTERNS` whose histogram is nearest to that of its window.

    The distance of two histograms is the earth mover's: how far HU must be moved to make one the other, so that a shift of 30 HU is small.
    Blocks of about 3 mm hold the histograms, a window is the 27 blocks about its own, and only voxels of the mask count.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units.
    mask : ndarray of bool, shape (z, y, x)
        The lung; not empty.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Returns
    -------
    ndarray of int, shape (n,)
        One for each voxel of ``hu[mask]``.
    """
    bins = len(EDGES_HU) - 1
    edges = [max(1, round(BLOCK_MM / step)) for step in spacing_mm]
    shape = [-(-n // edge) + 2 for n, edge in zip(mask.shape, edges, strict=True)]  # one empty block all around
    own = np.ravel_multi_index([np.nonzero(mask)[a] // edges[a] + 1 for a in range(3)], shape)
    level = np.clip(np.digitize(hu[mask], EDGES_HU) - 1, 0, bins - 1)
    blocks, place = np.unique(own, return_inverse=True)
    counts = np.zeros((math.prod(shape), bins), np.float32)
    counts[blocks] = np.bincount(place * bins + level, minlength=len(blocks) * bins).reshape(-1, bins)
    for step in (1, shape[2], shape[1] * shape[2]):  # box sums, one axis after the other; the empty rim keeps rows apart
        total = counts.copy()
        total[step:] += counts[:-step]
        total[:-step] += counts[step:]
        counts = total
    shares = counts[blocks].cumsum(axis=1)
    shares /= shares[:, -1:]
    exemplars = np.array([_cumulative(mixture) for mixture in PATTERNS.values()], np.float32)
    distance = np.array([np.abs(shares - one).sum(axis=1) for one in exemplars])
    return distance.argmin(axis=0)[place]


def _cumulative(mixture: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    below = np.sum([share * ndtr((EDGES_HU[1:] - mean) / sd) for share, mean, sd in mixture], axis=0)
    return np.append(below[:-1], 1.0)
