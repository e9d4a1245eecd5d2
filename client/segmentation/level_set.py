"""Lung masks by level sets, slice by slice and all slices at once: Chan-Vese over regions, DRLSE along edges.

The contour is where the function phi is 0, and phi is negative inside. Derivatives are taken inside the slices only: slices are often far
apart, and each is a problem of its own.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from client.cases.volume import Volume
from client.segmentation.components import Bits, close_gaps, dilate, erode
from client.segmentation.lungs import Lungs, find, onto
from client.segmentation.sides import part
from shared_models.core.arrays import HU, Mask

GRID_MM = 3.5
LOW_HU, HIGH_HU = -1000.0, 0.0
"""Mapped to 0 and 1 before a contour moves."""
CROSS = np.array([[[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]], bool)
QUIET_STEPS = 6
TINY = np.float32(1e-6)

BelowHu = Annotated[float, Field(ge=-800, le=-200)]
CloseMm = Annotated[float, Field(ge=0, le=30)]


def chan_vese(
    volume: Volume,
    *,
    length: Annotated[float, Field(ge=0, le=10)] = 0.05,
    steps: Annotated[int, Field(ge=1, le=2000)] = 60,
    below_hu: BelowHu = -400.0,
    close_mm: CloseMm = 7.0,
) -> Mask:
    """Return the lung mask of a chest CT by the Chan-Vese level set: 0 elsewhere, 1 right lung, 2 left lung.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    length : float
        Weight of the contour's length: more makes it smoother.
    steps : int
        Most steps.
    below_hu : float
        Finds the lungs to start from and, on the full grid, their border within one voxel of the level set's grid of 3.5 mm.
    close_mm : float
        Width of the gaps to close inside each slice, millimetres.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.

    Notes
    -----
    Chan & Vese, "Active contours without edges", IEEE Trans Image Process 2001.
    """
    lungs, image, start = _prepared(volume, below_hu, close_mm)
    inside = chan_vese_contour(image, np.where(_core(start), np.float32(-1), np.float32(1)), length=length, steps=steps) < 0
    return _finished(volume, lungs, inside, below_hu, close_mm)


def drlse(
    volume: Volume,
    *,
    length: Annotated[float, Field(ge=0, le=50)] = 5.0,
    balloon: Annotated[float, Field(ge=-10, le=10)] = 0.5,
    steps: Annotated[int, Field(ge=1, le=2000)] = 20,
    below_hu: BelowHu = -400.0,
    close_mm: CloseMm = 7.0,
) -> Mask:
    """Return the lung mask of a chest CT by the distance-regularised level set (DRLSE): 0 elsewhere, 1 right lung, 2 left lung.

    The contour starts where the threshold puts it, moves onto the edge and is smoothed along it.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame.
    length : float
        Weight of the contour's length along the edge (lambda).
    balloon : float
        Weight of the area inside (alpha): above 0 the contour shrinks, below 0 it grows.
    steps : int
        Steps.
    below_hu, close_mm
        As in `chan_vese`.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.

    Notes
    -----
    Li et al., "Distance regularized level set evolution and its application to image segmentation", IEEE Trans Image Process 2010.
    """
    lungs, image, start = _prepared(volume, below_hu, close_mm)
    phi = np.where(start, np.float32(-2), np.float32(2))
    inside = drlse_contour(image * 255, phi, length=length, balloon=balloon, steps=steps) < 0
    return _finished(volume, lungs, inside, below_hu, close_mm)


def chan_vese_contour(image: HU, phi: HU, *, length: float = 0.05, steps: int = 60, step: float = 0.5, tolerance: float = 1e-4) -> HU:
    """Move a contour until it parts the image into two regions, each near its own mean.

    ``dphi/dt = delta(phi) [length kappa + (I - c_in)^2 - (I - c_out)^2]`` with phi negative inside, ``delta`` of width 1, and the means
    c_in and c_out taken anew in each step over the whole stack.

    Parameters
    ----------
    image : ndarray of float32, shape (z, y, x)
        Values about 0 to 1.
    phi : ndarray of float32, shape (z, y, x)
        Start, negative inside.
    length : float
        Weight of the contour's length.
    steps : int
        Most steps.
    step : float
        Time of a step; the forces are scaled so that the strongest moves phi by this much.
    tolerance : float
        Stop when, step after step, no larger share of the voxels changes side.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    phi, quiet = phi.astype(np.float32), 0
    for _ in range(steps):
        inside = phi < 0
        within = float(image[inside].mean()) if inside.any() else 0.0
        outside = float(image[~inside].mean()) if not inside.all() else 1.0
        force = np.square(image - np.float32(within)) - np.square(image - np.float32(outside))
        force += np.float32(length) * _curvature(phi)
        force *= 1 / (1 + np.square(phi))
        phi = np.clip(phi + np.float32(step / max(float(np.abs(force).max()), 1e-6)) * force, -3, 3)
        quiet = quiet + 1 if np.count_nonzero((phi < 0) != inside) <= tolerance * phi.size else 0
        if quiet == QUIET_STEPS:
            break
    return phi


def drlse_contour(
    image: HU, phi: HU, *, length: float = 5.0, balloon: float = 1.5, width: float = 1.5, step: float = 1.0, steps: int = 40, blur: float = 0.8
) -> HU:
    """Move a contour onto edges while phi keeps the slope 1 near it.

    Parameters
    ----------
    image : ndarray of float32, shape (z, y, x)
        Values about 0 to 255.
    phi : ndarray of float32, shape (z, y, x)
        Start: -2 inside, 2 outside.
    length, balloon, width
        lambda, alpha and epsilon of the paper; the weight of the distance regularisation is ``0.2 / step``.
    step : float
        Time of a step.
    steps : int
        Steps.
    blur : float
        Standard deviation, in voxels, of the blur before edges are looked for.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    smooth = np.asarray(ndimage.gaussian_filter(image.astype(np.float32), (0, blur, blur)), np.float32)
    gy, gx = _slopes(smooth)
    edge = (1 / (1 + gy**2 + gx**2)).astype(np.float32)
    ey, ex = _slopes(edge)
    phi = phi.astype(np.float32)
    for _ in range(steps):
        py, px = _slopes(phi)
        size = np.sqrt(py**2 + px**2)
        ny, nx = py / (size + TINY), px / (size + TINY)
        kappa = _divergence(ny, nx)
        near = np.where(np.abs(phi) <= width, (1 + np.cos(np.pi * phi / width)) / (2 * width), 0).astype(np.float32)
        # slope of the double-well potential over the slope of phi: 1 far from where it is regular, 0 where the slope is 1
        pull = np.where(size <= 1, np.sin(2 * np.pi * size) / (2 * np.pi), size - 1)
        pull = (np.where(pull != 0, pull, 1) / np.where(size != 0, size, 1)).astype(np.float32)
        regular = _divergence(pull * py - py, pull * px - px) + _laplacian(phi)
        change = np.float32(0.2 / step) * regular + near * (np.float32(length) * (ey * ny + ex * nx + edge * kappa) + np.float32(balloon) * edge)
        phi = (phi + np.float32(step) * change).astype(np.float32)
    return phi


def _prepared(volume: Volume, below_hu: float, close_mm: float) -> tuple[Lungs, HU, Bits]:
    lungs = find(volume, below_hu, coarse_mm=GRID_MM, margin_mm=2 * GRID_MM)
    start = close_gaps(lungs.air, close_mm, lungs.spacing_mm) & ~lungs.airway
    image = (np.clip(lungs.hu, LOW_HU, HIGH_HU) - np.float32(LOW_HU)) / np.float32(HIGH_HU - LOW_HU)
    image[(lungs.hu < below_hu) & ~dilate(start, CROSS)] = 1.0  # air outside the lungs is no region to part off
    image[lungs.airway] = 1.0
    return lungs, image.astype(np.float32), start


def _finished(volume: Volume, lungs: Lungs, inside: Bits, below_hu: float, close_mm: float) -> Mask:
    inside = close_gaps(inside, close_mm, lungs.spacing_mm) & ~lungs.airway
    return onto(volume, lungs, inside & (lungs.hu < below_hu), part(inside, lungs.spacing_mm, lungs.middle), below_hu)


def _core(start: Bits) -> Bits:
    # one voxel off the border, so that the regions and not the threshold say where it is; slices that have no core start as they are
    core = erode(start, CROSS)
    slices = np.asarray(core.any(axis=(1, 2)))
    return np.where(slices[:, None, None], core, start)


def _slopes(values: HU) -> tuple[HU, HU]:
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    half = np.float32(0.5)
    return half * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]), half * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])


def _divergence(along_y: HU, along_x: HU) -> HU:
    return _slopes(along_y)[0] + _slopes(along_x)[1]


def _laplacian(values: HU) -> HU:
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2] - 4 * values


def _curvature(phi: HU) -> HU:
    py, px = _slopes(phi)
    size = np.sqrt(py**2 + px**2) + TINY
    return _divergence(py / size, px / size)
