"""First order statistics of the lung's HU (IBSI reference manual 3.3 and 3.4; names and conventions as in pyradiomics)."""

from __future__ import annotations

import math

import numpy as np

from client.cases.prepared import Prepared
from client.features.grey_levels import BinWidth, discretised
from client.features.roi import Side, columns, cut_out, named
from client.segmentation.components import Bits
from shared_models.core.arrays import HU

MEASURES = (
    "10Percentile",
    "90Percentile",
    "Energy",
    "Entropy",
    "InterquartileRange",
    "Kurtosis",
    "Maximum",
    "MeanAbsoluteDeviation",
    "Mean",
    "Median",
    "Minimum",
    "Range",
    "RobustMeanAbsoluteDeviation",
    "RootMeanSquared",
    "Skewness",
    "TotalEnergy",
    "Uniformity",
    "Variance",
)
"""Names as in pyradiomics; their formulas stand in `describe_first_order`."""


def first_order_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `first_order` in order.

    Examples
    --------
    >>> len(first_order_names()), first_order_names()[2]
    (18, 'original_firstorder_Energy')
    """
    return columns("firstorder", MEASURES, side)


def first_order(prepared: Prepared, *, side: Side = "whole", bin_width_hu: BinWidth = 25.0) -> dict[str, float]:
    """Return the first order features of the lung.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    bin_width_hu : float
        Width of a grey level, HU; entropy and uniformity are those of grey levels.

    Returns
    -------
    dict
        Keys of `first_order_names`; NaN for an empty region.

    Raises
    ------
    BadInput
        No lung mask, intensities that are no HU, or more than 1024 grey levels.
    """
    hu, mask = cut_out(prepared, side)
    found = describe_first_order(hu, mask, prepared.volume.voxel_ml * 1000.0, bin_width_hu) if mask.any() else None
    return named("firstorder", MEASURES, side, found)


def describe_first_order(hu: HU, mask: Bits, voxel_mm3: float, bin_width_hu: float) -> dict[str, float]:
    """Return the first order features of the voxels in a mask.

    With n voxels x, moments m_k about the mean (divided by n) and shares p of the grey levels: ``Energy`` sum x^2; ``TotalEnergy`` the
    same times the volume of a voxel; ``RootMeanSquared`` sqrt(Energy / n); ``Entropy`` - sum p log2 p; ``Uniformity`` sum p^2;
    ``Variance`` m2; ``Skewness`` m3 / m2^1.5; ``Kurtosis`` m4 / m2^2, **without** the 3 that `densitometry` subtracts (both 0 for constant
    voxels); percentiles with linear interpolation; ``MeanAbsoluteDeviation`` mean |x - mean|, and robust: of the x from the 10th to the
    90th percentile.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units.
    mask : ndarray of bool, shape (z, y, x)
        The region; not empty.
    voxel_mm3 : float
        Volume of a voxel, cubic millimetres.
    bin_width_hu : float
        Width of a grey level, HU.

    Examples
    --------
    >>> ramp = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    >>> found = describe_first_order(ramp, np.ones(ramp.shape, bool), 1.0, 25.0)
    >>> found["Variance"], found["Kurtosis"]
    (2.0, 1.7)
    """
    x = hu[mask].astype(np.float64)
    counts = np.bincount(discretised(hu, mask, bin_width_hu).values)
    p = counts[counts > 0] / len(x)
    mean = float(x.mean())
    off = x - mean
    square = off * off
    m2, m3, m4 = float(square.mean()), float(square @ off) / len(x), float(square @ square) / len(x)
    p10, p25, p50, p75, p90 = (float(v) for v in np.percentile(x, (10, 25, 50, 75, 90)))
    middle = x[(x >= p10) & (x <= p90)]
    energy = float(x @ x)
    lowest, highest = float(x.min()), float(x.max())
    return {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": float(-(p @ np.log2(p))),
        "InterquartileRange": p75 - p25,
        "Kurtosis": m4 / m2**2 if m2 > 0 else 0.0,
        "Maximum": highest,
        "MeanAbsoluteDeviation": float(np.abs(off).mean()),
        "Mean": mean,
        "Median": p50,
        "Minimum": lowest,
        "Range": highest - lowest,
        "RobustMeanAbsoluteDeviation": float(np.abs(middle - middle.mean()).mean()),
        "RootMeanSquared": math.sqrt(energy / len(x)),
        "Skewness": m3 / m2**1.5 if m2 > 0 else 0.0,
        "TotalEnergy": energy * voxel_mm3,
        "Uniformity": float(p @ p),
        "Variance": m2,
    }
