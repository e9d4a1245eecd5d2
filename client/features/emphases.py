"""What the run length, size zone and dependence matrices have in common: emphases of small and large, of low and high, and uniformity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEASURES = (
    "small",
    "large",
    "grey_uniformity",
    "grey_uniformity_normalised",
    "size_uniformity",
    "size_uniformity_normalised",
    "percentage",
    "grey_variance",
    "size_variance",
    "entropy",
    "low_grey",
    "high_grey",
    "small_low",
    "small_high",
    "large_low",
    "large_high",
)
"""Keys of `emphases`, in order."""


def emphases(grey: NDArray[np.intp], size: NDArray[np.intp], count: NDArray[np.intp]) -> dict[str, float]:
    """Return the sixteen features of a matrix whose entry (i, j) counts things of grey level i and size j (IBSI reference manual 3.7).

    With P the matrix, N its sum and p = P / N: ``small`` and ``large`` sum p / j^2 and p j^2; ``low_grey`` and ``high_grey`` the same with
    i; the four mixed ones with both; ``grey_uniformity`` and ``size_uniformity`` the sums of squared margins over N, and normalised over
    N^2; ``percentage`` N over the number of voxels sum P j; variances of i and j under p; ``entropy`` - sum p log2 p.

    Parameters
    ----------
    grey, size, count : ndarray of int, shape (k,)
        The entries of the matrix that are not 0.

    Examples
    --------
    >>> emphases(np.array([1, 2]), np.array([1, 2]), np.array([1, 1]))["small"]
    0.625
    """
    total = float(count.sum())
    p = count / total
    i, j = grey.astype(np.float64), size.astype(np.float64)
    i2, j2 = i**2, j**2
    by_grey = np.bincount(grey, count)
    sizes, place = np.unique(size, return_inverse=True)
    by_size = np.bincount(place, count, len(sizes))
    return {
        "small": float(p @ (1 / j2)),
        "large": float(p @ j2),
        "grey_uniformity": float(by_grey @ by_grey) / total,
        "grey_uniformity_normalised": float(by_grey @ by_grey) / total**2,
        "size_uniformity": float(by_size @ by_size) / total,
        "size_uniformity_normalised": float(by_size @ by_size) / total**2,
        "percentage": total / float(count @ j),
        "grey_variance": float(p @ (i - p @ i) ** 2),
        "size_variance": float(p @ (j - p @ j) ** 2),
        "entropy": float(-(p @ np.log2(p))),
        "low_grey": float(p @ (1 / i2)),
        "high_grey": float(p @ i2),
        "small_low": float(p @ (1 / (i2 * j2))),
        "small_high": float(p @ (i2 / j2)),
        "large_low": float(p @ (j2 / i2)),
        "large_high": float(p @ (i2 * j2)),
    }


def entries(grey: NDArray[np.intp], size: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Count equal pairs of grey level and size: the entries of the matrix that are not 0.

    Examples
    --------
    >>> [part.tolist() for part in entries(np.array([1, 2, 1]), np.array([3, 1, 3]))]
    [[1, 2], [3, 1], [2, 1]]
    """
    width = int(size.max()) + 1
    pairs, counts = np.unique(grey * width + size, return_counts=True)
    return pairs // width, pairs % width, counts.astype(np.intp)
