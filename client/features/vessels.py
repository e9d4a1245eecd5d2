"""Volume of the vessels inside the lung: bright tubes by the eigenvalues of the Hessian (Frangi et al. 1998), up to about 5 mm in radius."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter1d

from client.cases.prepared import Prepared
from client.features.densitometry import thirds_of
from client.features.pleura import depth_mm
from client.features.roi import hu_of, side_mask
from client.segmentation.components import bounding_box, dilate
from client.segmentation.sides import LEFT
from shared_models.core.arrays import HU

SCALES_MM = (1.0, 1.8, 3.0)
"""Standard deviations of the Gaussians; each answers best to tubes of about 1.4 times that radius."""

REGIONS = ("whole", "right", "left", "upper", "middle", "lower")
ALPHA, BETA = 0.5, 0.5
"""Frangi's own: how fast plates and blobs are ruled out."""

CONTRAST_HU = 150.0
"""Half of what a vessel's scale-normalised second derivatives add up to; Frangi takes half of the image's greatest, which is no constant."""

LEAST_SIGMA_VOXELS = 0.7
"""A Gaussian narrower than this is not seen by the grid."""


def vessels_names() -> tuple[str, ...]:
    """Return the columns of `vessels` in order.

    Examples
    --------
    >>> vessels_names()[:2], vessels_names()[-1]
    (('whole_vessel_ml', 'whole_vessel_percent'), 'small_vessel_percent')
    """
    return (*(f"{region}_vessel_{unit}" for region in REGIONS for unit in ("ml", "percent")), "small_vessel_percent")


def vessels(
    prepared: Prepared,
    *,
    erode_mm: Annotated[float, Field(ge=0, le=30)] = 3.0,
    above_hu: Annotated[float, Field(ge=-900, le=0)] = -500.0,
    least_vesselness: Annotated[float, Field(gt=0, lt=1)] = 0.2,
) -> dict[str, float]:
    """Return the volume of vessels (mL) and its percentage of the eroded lung, for the lungs and their parts.

    A voxel is vessel when it lies deeper than `erode_mm`, is brighter than `above_hu`, and has, or touches one that has, at any of three
    scales a vesselness of `least_vesselness` or more. The last column is the share of the tubular voxels (those that have) which answer best
    at the smallest scale. Lines and walls of fibrosis are tubes in part, and are counted then.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x); voxels above 2.5 mm hide the small vessels.
    erode_mm : float
        Depth below the lung's border at which vessels are counted: pleura and chest wall are no vessels.
    above_hu : float
        Where a vessel ends: about half way from lung to blood.
    least_vesselness : float
        From 0 (nothing like a tube) to 1.

    Returns
    -------
    dict
        Keys of `vessels_names`; NaN for percentages of nothing.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    hu, lung = hu_of(prepared), side_mask(prepared)
    if prepared.mask is None or not lung.any():
        return {name: 0.0 if name.endswith("_ml") else math.nan for name in vessels_names()}
    box = bounding_box(lung)
    labels, lung = prepared.mask[box], lung[box]
    deep = depth_mm(labels, prepared.volume.spacing_mm) >= max(erode_mm, 1e-6)
    image = np.where(lung, hu[box], np.float32(np.median(hu[box][lung]))).astype(np.float32)  # no edge where the lung ends
    likely = np.flatnonzero(deep & (image > above_hu))
    scores = vesselness(image, likely, prepared.volume.spacing_mm)
    tubular = scores.max(axis=0) >= least_vesselness
    core = np.zeros(labels.shape, bool)
    core.ravel()[likely[tubular]] = True
    is_vessel = dilate(core, np.ones((3, 3, 3), bool)).ravel()[likely]  # the rim of a tube is no tube by itself
    third = np.broadcast_to(thirds_of(len(labels))[:, None, None], labels.shape).ravel()
    cell = third * 2 + (labels.ravel() == LEFT)
    found = np.bincount(cell[likely[is_vessel]], minlength=6)
    room = np.bincount(cell[np.flatnonzero(deep)], minlength=6)
    members = {"whole": range(6), "right": (0, 2, 4), "left": (1, 3, 5), "lower": (0, 1), "middle": (2, 3), "upper": (4, 5)}
    out = {}
    for region in REGIONS:
        cells = list(members[region])
        voxels, of = int(found[cells].sum()), int(room[cells].sum())
        out[f"{region}_vessel_ml"] = voxels * prepared.volume.voxel_ml
        out[f"{region}_vessel_percent"] = 100.0 * voxels / of if of else math.nan
    smallest = int((scores.argmax(axis=0)[tubular] == 0).sum())
    return out | {"small_vessel_percent": 100.0 * smallest / int(tubular.sum()) if tubular.any() else math.nan}


def vesselness(hu: HU, places: NDArray[np.intp], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return Frangi's measure of a bright tube at some voxels, for each of `SCALES_MM`.

    With |l1| <= |l2| <= |l3| the eigenvalues of the Hessian (derivatives times their scale): 0 unless l2 and l3 are negative, else
    (1 - exp(-A^2 / 2 alpha^2)) exp(-B^2 / 2 beta^2) (1 - exp(-S^2 / 2 c^2)) with A = |l2 / l3| (plate or tube), B = |l1| / sqrt(l2 l3)
    (blob or tube) and S^2 = l1^2 + l2^2 + l3^2 (contrast, c in HU).

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units.
    places : ndarray of int, shape (n,)
        Voxels in the flat image.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Returns
    -------
    ndarray, shape (scale, n)
    """
    found = []
    for scale in SCALES_MM:
        hessian = _hessian(hu, places, tuple(max(scale / step, LEAST_SIGMA_VOXELS) for step in spacing_mm))
        eigenvalues = np.linalg.eigvalsh(hessian)
        order = np.argsort(np.abs(eigenvalues), axis=1)
        l1, l2, l3 = np.take_along_axis(eigenvalues, order, axis=1).T
        bright = (l2 < 0) & (l3 < 0)
        l2, l3 = np.where(bright, l2, -1.0), np.where(bright, l3, -1.0)
        plate, blob = l2 / l3, l1**2 / (l2 * l3)
        strength = l1**2 + l2**2 + l3**2
        measure = -np.expm1(-(plate**2) / (2 * ALPHA**2)) * np.exp(-blob / (2 * BETA**2)) * -np.expm1(-strength / (2 * CONTRAST_HU**2))
        found.append(np.where(bright, measure, 0.0))
    return np.array(found)


def _hessian(hu: HU, places: NDArray[np.intp], sigmas: tuple[float, ...]) -> NDArray[np.float64]:
    # second derivatives of the smoothed image, axis after axis: what two of them share is computed once
    out = np.zeros((len(places), 3, 3))
    for z in range(3):
        along_z = gaussian_filter1d(hu, sigmas[0], 0, order=z, mode="nearest", truncate=3.0)
        for y in range(3 - z):
            along_y = gaussian_filter1d(along_z, sigmas[1], 1, order=y, mode="nearest", truncate=3.0)
            x = 2 - z - y
            value = gaussian_filter1d(along_y, sigmas[2], 2, order=x, mode="nearest", truncate=3.0).ravel()[places]
            first, second = [axis for axis, order in enumerate((z, y, x)) for _ in range(order)]
            out[:, first, second] = out[:, second, first] = value * (sigmas[first] * sigmas[second])
    return out
