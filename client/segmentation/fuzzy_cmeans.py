"""Lung mask by fuzzy c-means: the grey values fall into clusters, a wide gap parts air from tissue; nothing random, on a histogram."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.volume import Volume
from client.segmentation.components import Bits, close_gaps
from client.segmentation.lungs import coarse_steps, find, onto
from client.segmentation.sides import part
from shared_models.blocks.fuzzy import HIGHEST_HU, LEVELS_HU, LOWEST_HU, FuzzyFit, first_centres, fit_fuzzy
from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadChoice, BadStudy

COARSE_MM = 1.6
MOST_VOXELS = 30_000_000
"""Voxels of the coarse grid: each takes some twenty bytes on the way."""

Clusters = Annotated[int, Field(ge=2, le=8)]
Fuzzifier = Annotated[float, Field(gt=1, le=5)]
CloseMm = Annotated[float, Field(ge=0, le=30)]
CentresHu = tuple[Annotated[float, Field(ge=LOWEST_HU, le=HIGHEST_HU)], ...]


def fuzzy_cmeans(volume: Volume, *, clusters: Clusters = 2, fuzzifier: Fuzzifier = 2.0, close_mm: CloseMm = 2.6, centres_hu: CentresHu = ()) -> Mask:
    """Return the lung mask of a chest CT by plain fuzzy c-means: 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    clusters : int
        How many; the widest gap between two centres parts air and lung from tissue.
    fuzzifier : float
        Exponent m of the memberships.
    close_mm : float
        Width of the gaps to close inside each slice, millimetres.
    centres_hu : tuple of float
        Centres of all hospitals together, one a cluster, as the statistic ``fuzzy_centres`` finds them from the sum of their histograms: then
        every hospital parts its scans alike. Without them each scan has centres of its own.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body, or grey values that do not form the clusters.

    Notes
    -----
    Bezdek, Pattern Recognition with Fuzzy Objective Function Algorithms, 1981.
    """
    return by_clusters(volume, lambda hu: hu, clusters, fuzzifier, close_mm, centres_hu)


def by_clusters(
    volume: Volume,
    smoothed: Callable[[HU], HU],
    clusters: int,
    fuzzifier: float,
    close_mm: float,
    centres_hu: tuple[float, ...] = (),
    is_air: Callable[[HU, FuzzyFit], Bits] | None = None,
) -> Mask:
    """Return the mask of the lungs among what the clusters of a smoothed image say is air: what all fuzzy segmenters share.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x).
    smoothed : callable
        The image that the clusters are fitted to, from the coarse grid's HU, within the grey values that are counted.
    clusters, fuzzifier, close_mm, centres_hu
        As in `fuzzy_cmeans`.
    is_air : callable, optional
        From that image and the clusters, where something else than the nearest centre decides.

    Raises
    ------
    BadStudy
        ``NO_LUNG``.
    """
    coarse_mm = grid_mm(volume)
    image = smoothed(coarse_hu(volume, coarse_mm))
    fit = clustered(image, clusters, fuzzifier, centres_hu)
    below_hu = border_hu(fit)
    air = image < below_hu if is_air is None else is_air(image, fit)
    del image
    lungs = find(volume, lambda _: air, coarse_mm=coarse_mm)
    closed = close_gaps(lungs.air, close_mm, lungs.spacing_mm) & ~lungs.airway
    return onto(volume, lungs, lungs.air, part(closed, lungs.spacing_mm, lungs.middle), below_hu)


def coarse_hu(volume: Volume, coarse_mm: float = COARSE_MM) -> HU:
    """Return the volume on a coarse grid, within the grey values that are counted."""
    fz, fy, fx = coarse_steps(volume, coarse_mm)
    return np.clip(volume.hu[::fz, ::fy, ::fx], LOWEST_HU, HIGHEST_HU)


def grid_mm(volume: Volume) -> float:
    """Return the coarse grid's least voxel side, grown until the grid has no more voxels than `MOST_VOXELS`.

    Examples
    --------
    >>> whole = np.broadcast_to(np.float32(0), (300, 512, 512))
    >>> grid_mm(Volume(whole, (1.0, 0.7, 0.7))), round(grid_mm(Volume(whole, (1.0, 0.9, 0.9))), 2)
    (1.6, 1.8)
    """
    coarse_mm = COARSE_MM
    while math.prod(-(-n // step) for n, step in zip(volume.hu.shape, coarse_steps(volume, coarse_mm), strict=True)) > MOST_VOXELS:
        coarse_mm *= 1.125
    return coarse_mm


def histogram(hu: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count whole HU from `LOWEST_HU` to `HIGHEST_HU`; what lies beyond counts at the end.

    Examples
    --------
    >>> histogram(np.array([-3000.0, -1024.0, -1023.4]))[:3].tolist()
    [2, 1, 0]
    """
    level = np.rint(np.clip(hu, LOWEST_HU, HIGHEST_HU)).astype(np.int16) - LOWEST_HU
    return np.bincount(level.ravel(), minlength=len(LEVELS_HU)).astype(np.int64)


def clustered(hu: NDArray[np.floating], clusters: int, fuzzifier: float = 2.0, centres_hu: CentresHu = ()) -> FuzzyFit:
    """Fit the clusters to an image (or to any of its voxels), or take the centres that are known.

    Raises
    ------
    BadStudy
        ``NO_LUNG``: fewer different grey values than clusters.
    BadChoice
        Known centres that are not as many different ones as clusters.
    """
    if centres_hu and not len(set(centres_hu)) == len(centres_hu) == clusters:
        raise BadChoice("centres_hu names a different centre for each cluster", value=list(centres_hu), remedy=f"clusters = {len(set(centres_hu))}")
    counts = histogram(hu)
    if np.count_nonzero(counts) < clusters:
        raise BadStudy("NO_LUNG", "a chest CT holds air and tissue", value=f"{np.count_nonzero(counts)} grey values")
    if centres_hu:
        return FuzzyFit(np.sort(np.array(centres_hu, np.float64)), ())
    return fit_fuzzy([counts], LEVELS_HU, first_centres(counts, LEVELS_HU, clusters), fuzzifier=fuzzifier)


def nearest_cluster(hu: NDArray[np.floating], fit: FuzzyFit) -> Mask:
    """Return the cluster of the largest membership, counted from 0 at the lowest centre: that of the nearest centre.

    Examples
    --------
    >>> nearest_cluster(np.array([-900.0, -300.0, 100.0]), FuzzyFit(np.array([-850.0, 40.0]), ())).tolist()
    [0, 1, 1]
    """
    middles = (fit.centres[1:] + fit.centres[:-1]) / 2
    return np.searchsorted(middles, hu, side="right").astype(np.uint8)


def border_hu(fit: FuzzyFit) -> float:
    """Return the grey value between air and tissue: the middle of the widest gap between two centres.

    Examples
    --------
    >>> border_hu(FuzzyFit(np.array([-1000.0, -840.0, 40.0]), ()))
    -400.0
    """
    below = int(np.diff(fit.centres).argmax())
    return float(fit.centres[below : below + 2].mean())
