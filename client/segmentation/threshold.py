"""Lung mask by threshold: air inside the body, its large components, without the windpipe, right and left told apart."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.volume import Volume
from client.segmentation.airway import follow_airway
from client.segmentation.components import Bits, bounding_box, dilate, erode, label, sizes
from client.segmentation.sides import part
from shared_models.core.arrays import HU, Mask
from shared_models.core.errors import BadStudy

COARSE_MM = 1.6
"""Components are found on a grid no finer than this; coarser input is used as it is, voxel by voxel."""
MIN_LUNG_ML = 200.0
IN_SLICE = np.array([[[0] * 3] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0] * 3] * 3], bool)


def threshold(
    volume: Volume,
    *,
    below_hu: Annotated[float, Field(ge=-800, le=-200)] = -400.0,
    close_mm: Annotated[float, Field(ge=0, le=30)] = 2.6,
    smallest_share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
) -> Mask:
    """Return the lung mask of a chest CT: 0 elsewhere, 1 right lung, 2 left lung.

    1. Air is what lies below `below_hu`. 2. In every slice, air that reaches the border is outside the body. 3. Of what remains, the largest
    connected component (both lungs, joined by the airways) is kept, and a second one when it has at least `smallest_share` of the first.
    4. The windpipe and main bronchi are followed from the top and dropped. 5. Gaps up to `close_mm` wide are closed inside each slice, which
    takes in small vessels and thin dense disease. 6. The two sides are parted where the mask is thinnest.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame (x grows to the patient's left).
    below_hu : float
        Air and lung lie below it, body above.
    close_mm : float
        Width of the gaps to close, millimetres; gaps below two voxels stay. Wider closing brings back more of a consolidated lung, and more
        vessels: the mean density rises by about 4 HU per millimetre.
    smallest_share : float
        Smallest second component, as a share of the first.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.
    """
    steps = tuple(max(1, int(COARSE_MM // step)) for step in volume.spacing_mm)
    fz, fy, fx = steps
    coarse = volume.hu[::fz, ::fy, ::fx]
    dz, dy, dx = (a * b for a, b in zip(volume.spacing_mm, steps, strict=True))
    spacing = (dz, dy, dx)
    inside, middle = inside_air(coarse, below_hu)
    lungs = _largest(inside, smallest_share, volume.voxel_ml * fz * fy * fx)
    box = bounding_box(lungs)
    hu, kept = coarse[box], lungs[box]
    airway = follow_airway(hu, kept, spacing, middle - box[2].start)
    kept = kept & ~airway
    closed = close_gaps(kept, close_mm, spacing) & ~airway
    sides = part(closed, spacing, middle - box[2].start)
    if steps == (1, 1, 1):
        mask = np.zeros(volume.hu.shape, np.uint8)
        mask[box] = sides
        return mask
    return _refined(volume.hu, below_hu, kept, sides, box, steps)


def inside_air(hu: HU, below_hu: float) -> tuple[Bits, float]:
    """Return the air that no path inside its own slice joins to the slice's border, and the body's middle as an x index.

    Judging slice by slice keeps a leak in one slice from emptying the whole lung; what lies between inside air above and below is then
    given back to that slice.

    Examples
    --------
    >>> slab = np.zeros((1, 5, 5), np.float32)
    >>> slab[0, 2, 2] = slab[0, 0, 0] = -1000
    >>> inside_air(slab, -400)[0].nonzero()
    (array([0]), array([2]), array([2]))
    """
    air = hu < below_hu
    labels, count = label(air, IN_SLICE)
    inside = np.ones(count + 1, bool)
    inside[0] = False
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        inside[edge] = False
    tissue = (~air).sum(axis=(0, 1))
    middle = float(tissue @ np.arange(len(tissue)) / max(1, tissue.sum()))
    found = inside[labels]
    found[1:-1] |= found[:-2] & found[2:] & air[1:-1]
    return found, middle


def _largest(inside: Bits, smallest_share: float, voxel_ml: float) -> Bits:
    labels, _ = label(inside)
    counts, order = sizes(labels)
    largest_ml = float(counts[order[0]]) * voxel_ml if order else 0.0
    if largest_ml < MIN_LUNG_ML:
        raise BadStudy("NO_LUNG", f"a chest CT holds at least {MIN_LUNG_ML:g} mL of air inside the body", value=round(largest_ml))
    lungs = labels == order[0]
    if len(order) > 1 and counts[order[1]] >= smallest_share * counts[order[0]]:
        lungs |= labels == order[1]
    return lungs


def close_gaps(mask: Bits, close_mm: float, spacing_mm: tuple[float, float, float]) -> Bits:
    """Close gaps up to `close_mm` wide inside each slice (dilation, then erosion, by an ellipse of that diameter).

    Examples
    --------
    >>> slit = np.ones((1, 3, 5), bool)
    >>> slit[:, :, 2] = False
    >>> close_gaps(slit, 2.0, (1, 1, 1))[0, 1].tolist()
    [True, True, True, True, True]
    """
    ry, rx = (int(close_mm / 2 / step + 1e-6) for step in spacing_mm[1:])
    if ry < 1 and rx < 1:
        return mask
    y, x = np.ogrid[-ry : ry + 1, -rx : rx + 1]
    disc = ((y / max(ry, 1)) ** 2 + (x / max(rx, 1)) ** 2 <= 1.0)[None]
    grown = dilate(np.pad(mask, ((0, 0), (ry, ry), (rx, rx))), disc)
    return erode(grown, disc)[:, ry : grown.shape[1] - ry, rx : grown.shape[2] - rx] | mask


def _refined(hu: HU, below_hu: float, kept: Bits, sides: Mask, box: tuple[slice, ...], steps: tuple[int, ...]) -> Mask:
    # every voxel of the full grid that is air and within one coarse voxel of the lung, plus what closing added
    near = sides.copy()
    for side in (1, 2):
        near[(near == 0) & dilate(sides == side)] = side
    near_air = np.where(kept | (sides == 0), near, 0)
    solid = np.where(kept, 0, sides).astype(np.uint8)
    mask = np.zeros(hu.shape, np.uint8)
    fine = tuple(slice(b.start * f, min(b.stop * f, n)) for b, f, n in zip(box, steps, hu.shape, strict=True))
    part_of = mask[fine]
    part_of[:] = _enlarged(near_air.astype(np.uint8), steps, part_of.shape)
    part_of *= hu[fine] < below_hu
    np.maximum(part_of, _enlarged(solid, steps, part_of.shape), out=part_of)
    return mask


def _enlarged(labels: Mask, steps: tuple[int, ...], shape: tuple[int, ...]) -> Mask:
    for axis, step in enumerate(steps):
        if step > 1:
            labels = np.repeat(labels, step, axis=axis)
    return labels[tuple(slice(0, n) for n in shape)]
