"""Lung densitometry: shares of high and low attenuation, moments, percentiles, volume, mass and aeration, for the lungs and their parts.

Definitions follow the quantitative CT literature with inclusive and exclusive bounds exactly as written in `describe_values`; high
attenuation after Lederer et al. (MESA), moments after Ash et al. 2017, aeration after Gattinoni et al.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.segmentation.sides import LEFT
from shared_models.core.errors import BadInput

REGIONS = ("whole", "right", "left", "upper", "middle", "lower")
"""Both lungs; the patient's own sides; thirds of the height between the lowest and the highest slice of the mask."""

PERCENTILES = (5, 15, 50, 85, 95)

MEASURES = (
    "haa_percent",
    "laa950_percent",
    "laa910_percent",
    "mld_hu",
    "sd_hu",
    "skewness",
    "kurtosis",
    *(f"perc{p}_hu" for p in PERCENTILES),
    "hyperaerated_percent",
    "normally_aerated_percent",
    "poorly_aerated_percent",
    "nonaerated_percent",
    "volume_l",
    "mass_g",
)
"""Measures of each region, in the order of the columns."""

LOWEST_HU, HIGHEST_HU = -2048, 4095
"""Range in which whole-numbered HU are counted in a histogram; anything outside takes the slow way."""


def densitometry_names() -> tuple[str, ...]:
    """Return the names of all features in order, such as ``whole_haa_percent``.

    Examples
    --------
    >>> len(densitometry_names()), densitometry_names()[0]
    (108, 'whole_haa_percent')
    """
    return tuple(f"{region}_{measure}" for region in REGIONS for measure in MEASURES)


def describe_values(hu: NDArray[np.floating], voxel_ml: float) -> dict[str, float]:
    """Return the measures of one region from its voxels; the slow, obvious way that the fast one is tested against.

    With n voxels, m_k the k-th central moment (divided by n):

    - ``haa_percent``: 100 * share of -600 <= HU <= -250. ``laa950_percent``: HU < -950. ``laa910_percent``: HU < -910.
    - ``mld_hu``, ``sd_hu``: mean and population standard deviation. ``skewness``: m3 / m2^1.5. ``kurtosis``: m4 / m2^2 - 3 (excess).
    - ``percP_hu``: percentile with linear interpolation between order statistics.
    - aeration, percent of the volume: hyper [-1000, -900), normal [-900, -500), poor [-500, -100), none [-100, 100].
    - ``volume_l``; ``mass_g``: sum of voxel_ml * max(0, 1 + HU / 1000), that is, water weighs 1 g/mL and air nothing.

    Parameters
    ----------
    hu : ndarray, shape (n,)
        Hounsfield units inside the region.
    voxel_ml : float
        Volume of a voxel, millilitres.

    Returns
    -------
    dict
        Keys of `MEASURES`. NaN where a region is empty, or constant for skewness and kurtosis; volume and mass are then 0.

    Examples
    --------
    >>> golden = np.array([-1000, -951, -950, -949, -601, -600, -500, -250, -249, 0.0])
    >>> found = describe_values(golden, voxel_ml=1.0)
    >>> found["haa_percent"], found["laa950_percent"], round(found["skewness"], 6), round(found["perc15_hu"], 2)
    (30.0, 20.0, 0.330319, -950.65)
    """
    hu = np.asarray(hu, np.float64)
    n = len(hu)
    if n == 0:
        return _finished({}, 0.0, 0.0)
    mean = hu.mean()
    m2, m3, m4 = (float(((hu - mean) ** k).mean()) for k in (2, 3, 4))
    shares = {
        "haa_percent": (hu >= -600) & (hu <= -250),
        "laa950_percent": hu < -950,
        "laa910_percent": hu < -910,
        "hyperaerated_percent": (hu >= -1000) & (hu < -900),
        "normally_aerated_percent": (hu >= -900) & (hu < -500),
        "poorly_aerated_percent": (hu >= -500) & (hu < -100),
        "nonaerated_percent": (hu >= -100) & (hu <= 100),
    }
    out = {name: 100.0 * int(hits.sum()) / n for name, hits in shares.items()}
    out |= _moments(float(mean), m2, m3, m4)
    out |= {f"perc{p}_hu": float(v) for p, v in zip(PERCENTILES, np.percentile(hu, PERCENTILES), strict=True)}
    return _finished(out, n * voxel_ml / 1000.0, float(np.maximum(0.0, 1.0 + hu / 1000.0).sum()) * voxel_ml)


def describe_counts(counts: NDArray[np.int64], voxel_ml: float) -> dict[str, float]:
    """Return the same measures as `describe_values` from a histogram with one bin per whole HU, beginning at `LOWEST_HU`.

    Histograms of parts add up to the histogram of the whole, so six regions cost one pass over the voxels; federated sums work the same way.

    Examples
    --------
    >>> golden = np.array([-1000, -951, -950, -949, -601, -600, -500, -250, -249, 0])
    >>> counts = np.bincount(golden - LOWEST_HU, minlength=HIGHEST_HU - LOWEST_HU + 1)
    >>> round(describe_counts(counts, 1.0)["kurtosis"], 6)
    -1.217267
    """
    n = int(counts.sum())
    if n == 0:
        return _finished({}, 0.0, 0.0)
    first, last = int(np.argmax(counts > 0)), len(counts) - int(np.argmax(counts[::-1] > 0))
    weight = counts[first:last].astype(np.float64)
    hu = np.arange(first, last, dtype=np.float64) + LOWEST_HU
    below = np.concatenate([[0], np.cumsum(counts)])

    def share(low: int, high: int) -> float:  # low <= HU < high
        return 100.0 * int(below[high - LOWEST_HU] - below[low - LOWEST_HU]) / n

    mean = float(weight @ hu) / n
    off = hu - mean
    m2, m3, m4 = (float(weight @ off**k) / n for k in (2, 3, 4))
    out = {
        "haa_percent": share(-600, -249),
        "laa950_percent": share(LOWEST_HU, -950),
        "laa910_percent": share(LOWEST_HU, -910),
        "hyperaerated_percent": share(-1000, -900),
        "normally_aerated_percent": share(-900, -500),
        "poorly_aerated_percent": share(-500, -100),
        "nonaerated_percent": share(-100, 101),
    }
    out |= _moments(mean, m2, m3, m4)
    for p in PERCENTILES:
        place = (n - 1) * p / 100.0
        k = int(place)
        low, high = (int(np.searchsorted(below[1:], i, side="right")) + LOWEST_HU for i in (k, min(k + 1, n - 1)))
        out[f"perc{p}_hu"] = low + (place - k) * (high - low)
    return _finished(out, n * voxel_ml / 1000.0, float(weight @ np.maximum(0.0, 1.0 + hu / 1000.0)) * voxel_ml)


def densitometry(prepared: Prepared) -> dict[str, float]:
    """Return the measures of every region in `REGIONS`, keys as in `densitometry_names`.

    Whole-numbered HU (any slope of 1) are counted in six histograms in one pass; others are measured voxel by voxel.

    Raises
    ------
    BadInput
        There is no lung mask, or a step has changed the intensities.
    """
    if not prepared.is_hu:
        raise BadInput(
            "density features need Hounsfield units", value="an image whose intensities were changed", remedy="describe before such a step"
        )
    if prepared.mask is None:
        raise BadInput("density features need a lung mask", remedy="segment first")
    mask, voxel_ml = prepared.mask, prepared.volume.voxel_ml
    height = np.nonzero(mask.any(axis=(1, 2)))[0]
    if len(height) == 0:
        return {name: (0.0 if name.endswith(("volume_l", "mass_g")) else math.nan) for name in densitometry_names()}
    low, high = int(height[0]), int(height[-1]) + 1
    inside = mask[low:high] > 0
    per_slice = inside.sum(axis=(1, 2))
    # two cells a third: right, left
    cells = np.repeat(thirds_of(high - low), per_slice) * 2 + (mask[low:high][inside] == LEFT)
    members = {"whole": range(6), "right": (0, 2, 4), "left": (1, 3, 5), "lower": (0, 1), "middle": (2, 3), "upper": (4, 5)}
    found = densitometry_of_cells(prepared.volume.hu[low:high][inside], cells, members, voxel_ml)
    return {f"{region}_{measure}": found[region][measure] for region in REGIONS for measure in MEASURES}


def thirds_of(height: int) -> NDArray[np.intp]:
    """Return the third in which each of `height` slices of a lung lies: 0 lower, 1 middle, 2 upper, for z grows toward the head.

    Examples
    --------
    >>> thirds_of(5).tolist()
    [0, 0, 1, 1, 2]
    """
    return np.minimum(3 * np.arange(height) // height, 2).astype(np.intp)


def densitometry_of_cells(
    hu: NDArray[np.float32], cells: NDArray[np.intp], members: Mapping[str, Sequence[int]], voxel_ml: float
) -> dict[str, dict[str, float]]:
    """Return the measures of regions that are unions of cells; each voxel lies in one cell.

    Whole-numbered HU are counted in one histogram a cell, in one pass, and the histograms added up; others are measured voxel by voxel.

    Parameters
    ----------
    hu : ndarray, shape (n,)
        Hounsfield units of the voxels.
    cells : ndarray of int, shape (n,)
        The cell of each, from 0.
    members : mapping of region to cells
        What each region consists of.
    voxel_ml : float
        Volume of a voxel, millilitres.

    Returns
    -------
    dict of region to measures
    """
    counts = _counts(hu, cells, 1 + max(max(numbers) for numbers in members.values()))
    if counts is not None:
        return {region: describe_counts(counts[list(numbers)].sum(axis=0), voxel_ml) for region, numbers in members.items()}
    return {region: describe_values(hu[np.isin(cells, list(numbers))], voxel_ml) for region, numbers in members.items()}


def _counts(values: NDArray[np.float32], cells: NDArray[np.intp], number: int) -> NDArray[np.int64] | None:
    whole = values.astype(np.int32)
    if int(whole.min()) < LOWEST_HU or int(whole.max()) > HIGHEST_HU or not np.array_equal(whole, values):
        return None
    bins = HIGHEST_HU - LOWEST_HU + 1
    return np.bincount(cells * bins + (whole - LOWEST_HU), minlength=number * bins).reshape(number, bins)


def _moments(mean: float, m2: float, m3: float, m4: float) -> dict[str, float]:
    flat = m2 <= 1e-12
    return {
        "mld_hu": mean,
        "sd_hu": math.sqrt(m2),
        "skewness": math.nan if flat else m3 / m2**1.5,
        "kurtosis": math.nan if flat else m4 / m2**2 - 3.0,
    }


def _finished(out: dict[str, float], volume_l: float, mass_g: float) -> dict[str, float]:
    out = out | {"volume_l": volume_l, "mass_g": mass_g}
    return {name: out.get(name, math.nan) for name in MEASURES}
