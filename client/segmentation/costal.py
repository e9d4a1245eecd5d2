"""Where the lung meets the ribs, seen from the middle of the chest: rays out to the pleura, and the convex line that joins their ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from client.segmentation.components import Bits
from shared_models.core.arrays import HU

RAYS = 360
FAR_MM = 1e6
"""Where a ray that meets no lung begins to be in the lung."""


@dataclass(frozen=True)
class Fan:
    """Rays of one degree from the middle of the chest, over the pixels of a slice.

    Parameters
    ----------
    away_mm : ndarray of float32, shape (y, x)
        Distance of each pixel from the middle.
    ray : ndarray of int, shape (y, x)
        Ray that a pixel lies on.
    towards : ndarray, shape (rays, 2)
        Unit vector (y, x) of each ray.
    """

    away_mm: NDArray[np.float32]
    ray: NDArray[np.int64]
    towards: NDArray[np.float64]


def fan(shape: tuple[int, int], spacing_mm: tuple[float, float], middle: tuple[float, float]) -> Fan:
    """Return the rays around the pixel `middle` (y, x) of a slice.

    Examples
    --------
    >>> round(float(fan((3, 3), (2.0, 2.0), (1.0, 1.0)).away_mm[1, 2]), 6)
    2.0
    """
    y = (np.arange(shape[0])[:, None] - middle[0]) * spacing_mm[0]
    x = (np.arange(shape[1])[None] - middle[1]) * spacing_mm[1]
    turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
    angle = 2 * np.pi * ((np.arange(RAYS) + 0.5) / RAYS - 0.5)
    towards = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return Fan(np.hypot(y, x).astype(np.float32), (turn * RAYS).astype(np.int64) % RAYS, towards)


def rims(lung: Bits, rays: Fan) -> tuple[HU, HU]:
    """Return, for each slice and ray, where the lung begins and where it ends; `FAR_MM` and 0 where the ray meets none.

    Returns
    -------
    near_mm, far_mm : ndarray of float32, shape (z, rays)
    """
    near = np.full((len(lung), RAYS), FAR_MM, np.float32)
    far = np.zeros((len(lung), RAYS), np.float32)
    away, ray = rays.away_mm.ravel(), rays.ray.ravel()
    for z, pixels in enumerate(lung):
        at = np.flatnonzero(pixels)
        np.minimum.at(near[z], ray[at], away[at])
        np.maximum.at(far[z], ray[at], away[at])
    return near, far


def bridged(near: HU, far: HU, slices: int) -> tuple[HU, HU]:
    """Bridge what is dented or missing over up to `slices` slices: closing of the far rim, opening of the near one, along z.

    Examples
    --------
    >>> near, far = np.full((3, 1), 10, np.float32), np.array([[90], [50], [80]], np.float32)
    >>> bridged(near, far, 1)[1].ravel().tolist()
    [90.0, 80.0, 80.0]
    """
    width = 2 * ((slices + 1) // 2) + 1
    edge = ((width, width), (0, 0))
    closed = ndimage.grey_closing(np.pad(far, edge), (width, 1))[width:-width]
    opened = ndimage.grey_opening(np.pad(near, edge, constant_values=FAR_MM), (width, 1))[width:-width]
    return np.minimum(near, opened), np.maximum(far, closed)


def hull_mm(far_mm: NDArray[np.float32], rays: Fan) -> NDArray[np.float64] | None:
    """Return where each ray leaves the convex hull of the rim of one slice; None where the rim spans no area.

    The pleura along the ribs is convex, so what lies between it and the hull is lung that is not air.

    Examples
    --------
    >>> rays = fan((3, 3), (1.0, 1.0), (1.0, 1.0))
    >>> dented = np.where(np.arange(360) == 90, 60, 100).astype(np.float32)
    >>> bool(hull_mm(dented, rays)[90] > 99.9)
    True
    """
    met = np.flatnonzero(far_mm > 0)
    if len(met) < 5:
        return None
    try:
        planes = ConvexHull(far_mm[met, None] * rays.towards[met]).equations
    except (QhullError, ValueError):
        return None
    slope, offset = planes[:, :2] @ rays.towards.T, -planes[:, 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        leaves = np.where(slope > 1e-9, offset / slope, np.inf).min(axis=0)
        enters = np.where(slope < -1e-9, offset / slope, -np.inf).max(axis=0)
    return np.where(enters < leaves, leaves, 0.0)
