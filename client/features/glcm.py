"""Grey level co-occurrence matrix (Haralick et al. 1973; IBSI reference manual 3.6; names as in pyradiomics).

One symmetric matrix for each of the 13 directions at distance 1; each feature is the mean over the directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.features.grey_levels import BinWidth, GreyLevels, directions, grey_levels
from client.features.roi import Side, columns, named

MEASURES = (
    "Autocorrelation",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Id",
    "Idm",
    "Idmn",
    "Idn",
    "Imc1",
    "Imc2",
    "InverseVariance",
    "JointAverage",
    "JointEnergy",
    "JointEntropy",
    "MCC",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
)
"""Names as in pyradiomics; their formulas stand in `describe_cooccurrence`."""


def glcm_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `glcm` in order.

    Examples
    --------
    >>> len(glcm_names()), glcm_names()[4]
    (24, 'original_glcm_Contrast')
    """
    return columns("glcm", MEASURES, side)


def glcm(prepared: Prepared, *, side: Side = "whole", bin_width_hu: BinWidth = 25.0, force_2d: bool = False) -> dict[str, float]:
    """Return the co-occurrence features of the lung.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    bin_width_hu : float
        Width of a grey level, HU.
    force_2d : bool
        Look for neighbours within a slice only (4 directions): for thick slices and gaps.

    Returns
    -------
    dict
        Keys of `glcm_names`; NaN where no voxel has a neighbour.

    Raises
    ------
    BadInput
        No lung mask, intensities that are no HU, or more than 1024 grey levels.
    """
    grey = grey_levels(prepared, side, bin_width_hu)
    counts = cooccurrences(grey, force_2d=force_2d)
    return named("glcm", MEASURES, side, describe_cooccurrence(counts) if len(counts) else None)


def cooccurrences(grey: GreyLevels, *, force_2d: bool = False) -> NDArray[np.float64]:
    """Return how often each pair of grey levels lies side by side, both ways, for every direction that has a pair.

    Returns
    -------
    ndarray, shape (direction, level, level)
        Index 0 is grey level 1.

    Examples
    --------
    >>> from client.features.grey_levels import discretised
    >>> row = discretised(np.array([[[0, 0, 25]]], np.float32), np.ones((1, 1, 3), bool), 25.0)
    >>> cooccurrences(row).tolist()
    [[[2.0, 1.0], [1.0, 0.0]]]
    """
    size = grey.highest + 1
    flat = grey.grid.ravel()
    rows = grey.values * size
    found = []
    for direction in directions(grey.grid.shape, flat=force_2d):
        pairs = rows + flat[grey.offset(direction) :].take(grey.inside)
        counts = np.bincount(pairs, minlength=size * size).reshape(size, size)[1:, 1:]  # level 0 lies outside the region
        if counts.any():
            found.append(counts + counts.T)
    return np.array(found, np.float64).reshape(len(found), size - 1, size - 1)


def describe_cooccurrence(counts: NDArray[np.float64]) -> dict[str, float]:
    """Return the features of co-occurrence matrices, each the mean over directions.

    With p the matrix divided by its sum, i and j grey levels, px its margin, mu = sum i px, and p+ and p- the distributions of i + j and
    of k = |i - j|:

    - ``Autocorrelation`` sum ij p; ``JointAverage`` mu; ``SumSquares`` sum (i - mu)^2 p; ``JointEnergy`` sum p^2;
      ``JointEntropy`` - sum p log2 p; ``MaximumProbability`` max p; ``Contrast`` sum (i - j)^2 p.
    - ``ClusterTendency``, ``ClusterShade``, ``ClusterProminence``: sum (i + j - 2 mu)^n p for n = 2, 3, 4.
    - ``Correlation``: (sum ij p - mu^2) / sigma^2, 1 where sigma is 0.
    - ``SumAverage``, ``SumEntropy`` of p+; ``DifferenceAverage``, ``DifferenceEntropy``, ``DifferenceVariance`` of p-.
    - ``Id`` sum p- / (1 + k); ``Idm`` sum p- / (1 + k^2); ``Idn``, ``Idmn`` with k / Ng and k^2 / Ng^2 (Ng the highest level);
      ``InverseVariance`` sum over k > 0 of p- / k^2.
    - ``Imc1`` (HXY - HXY1) / HX and ``Imc2`` sqrt(1 - exp(-2 (HXY2 - HXY))): information measures of correlation.
    - ``MCC``: root of the second eigenvalue of Q(i, j) = sum_k p(i, k) p(j, k) / (px(i) px(k)), which is the square of a symmetric matrix.

    Parameters
    ----------
    counts : ndarray, shape (direction, level, level)
        Symmetric, each with a sum above 0.

    Examples
    --------
    >>> describe_cooccurrence(np.array([[[2.0, 1.0], [1.0, 0.0]]]))["Contrast"]
    0.5
    """
    levels = np.arange(1, counts.shape[1] + 1, dtype=np.float64)
    highest = len(levels)
    used = counts.any(axis=(0, 1))
    p = counts[:, used][:, :, used] / counts.sum(axis=(1, 2), keepdims=True)
    i = levels[used]
    margin = p.sum(axis=2)
    mean = margin @ i
    variance = (margin * (i - mean[:, None]) ** 2).sum(axis=1)
    k = np.arange(highest, dtype=np.float64)
    apart = np.abs(i[:, None] - i).astype(np.intp).ravel()
    together = (i[:, None] + i).astype(np.intp).ravel()
    differences = np.array([np.bincount(apart, one.ravel(), highest) for one in p])
    sums = np.array([np.bincount(together, one.ravel(), 2 * highest + 1) for one in p])
    difference_mean = differences @ k
    product = (p * np.outer(i, i)).sum(axis=(1, 2))
    around = i[:, None] + i - 2 * mean[:, None, None]
    hxy, hx = _entropy(p, (1, 2)), _entropy(margin, (1,))
    outer = margin[:, :, None] * margin[:, None, :]
    log_outer = _log2(outer)
    hxy1, hxy2 = -(p * log_outer).sum(axis=(1, 2)), -(outer * log_outer).sum(axis=(1, 2))
    flat = variance <= 1e-12 * mean**2
    found = {
        "Autocorrelation": product,
        "ClusterProminence": (p * around**4).sum(axis=(1, 2)),
        "ClusterShade": (p * around**3).sum(axis=(1, 2)),
        "ClusterTendency": (p * around**2).sum(axis=(1, 2)),
        "Contrast": differences @ k**2,
        "Correlation": np.where(flat, 1.0, (product - mean**2) / np.where(flat, 1.0, variance)),
        "DifferenceAverage": difference_mean,
        "DifferenceEntropy": _entropy(differences, (1,)),
        "DifferenceVariance": (differences * (k - difference_mean[:, None]) ** 2).sum(axis=1),
        "Id": differences @ (1 / (1 + k)),
        "Idm": differences @ (1 / (1 + k**2)),
        "Idmn": differences @ (1 / (1 + (k / highest) ** 2)),
        "Idn": differences @ (1 / (1 + k / highest)),
        "Imc1": np.where(hx > 0, (hxy - hxy1) / np.where(hx > 0, hx, 1.0), 0.0),
        "Imc2": np.sqrt(np.maximum(0.0, -np.expm1(-2 * (hxy2 - hxy)))),
        "InverseVariance": differences[:, 1:] @ (1 / k[1:] ** 2),
        "JointAverage": mean,
        "JointEnergy": (p**2).sum(axis=(1, 2)),
        "JointEntropy": hxy,
        "MCC": _largest_correlation(p, margin),
        "MaximumProbability": p.max(axis=(1, 2)),
        "SumAverage": sums @ np.arange(sums.shape[1]),
        "SumEntropy": _entropy(sums, (1,)),
        "SumSquares": variance,
    }
    return {name: float(np.mean(found[name])) for name in MEASURES}


def _largest_correlation(p: NDArray[np.float64], margin: NDArray[np.float64]) -> NDArray[np.float64]:
    if p.shape[1] < 2:
        return np.ones(len(p))
    root = 1 / np.sqrt(np.where(margin > 0, margin, np.inf))
    eigenvalues = np.linalg.eigvalsh(p * root[:, :, None] * root[:, None, :])  # Q is similar to this matrix squared
    return np.sort(np.abs(eigenvalues), axis=1)[:, -2]


def _log2(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log2(np.where(p > 0, p, 1.0))


def _entropy(p: NDArray[Any], axes: tuple[int, ...]) -> NDArray[np.float64]:
    return -(p * _log2(p)).sum(axis=axes)
