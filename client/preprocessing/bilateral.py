"""Bilateral filter in the plane."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared
from client.preprocessing.planes import Plane, each_slice, framed


def bilateral(
    prepared: Prepared,
    *,
    radius: Annotated[int, Field(ge=1, le=10)] = 2,
    reach_pixels: Annotated[float, Field(gt=0, le=10)] = 1.5,
    contrast_hu: Annotated[float, Field(gt=0, le=2000)] = 60.0,
) -> Prepared:
    """Return every slice averaged over neighbours that are near in place and in value; still Hounsfield units.

    ``y(p) = sum_q w x(q) / sum_q w`` with ``w = exp(-|p - q|^2 / 2 reach^2) exp(-(x(p) - x(q))^2 / 2 contrast^2)``.

    Parameters
    ----------
    prepared : Prepared
        Image, shape (z, y, x).
    radius : int
        Half the edge of the window, pixels.
    reach_pixels : float
        Standard deviation in place.
    contrast_hu : float
        Standard deviation in value: steps well above it stay sharp. Twice the noise is a good start.

    References
    ----------
    Tomasi & Manduchi, Bilateral filtering for gray and color images, ICCV 1998.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> step = np.repeat(np.array([[[0, 0, 0, 1000, 1000, 1000]]], np.float32), 4, axis=1)
    >>> bilateral(Prepared(Volume(step, (1, 1, 1)))).volume.hu[0, 2].round().tolist()
    [0.0, 0.0, 0.0, 1000.0, 1000.0, 1000.0]
    """
    return each_slice(prepared, lambda plane: bilateral_plane(plane, radius, reach_pixels, contrast_hu), is_hu=True)


def bilateral_plane(plane: Plane, radius: int, reach_pixels: float, contrast_hu: float) -> Plane:
    """Return one filtered slice, mirrored at its border.

    A weight belongs to a pair of pixels, so each is computed once and used for both: half the exponentials of the plain loop.
    """
    rows, columns = plane.shape
    wide = framed(plane, radius)
    total, weight = wide.copy(), np.ones_like(wide)
    fall = np.float32(-0.5 / contrast_hu**2)
    for y, x in half_offsets(radius):
        here, there = pair(wide, y, x)
        w = there - here
        w *= w
        w *= fall
        w += np.float32(-0.5 * (y * y + x * x) / reach_pixels**2)
        np.exp(w, out=w)
        for one, other in (((0, 0), (y, x)), ((y, x), (0, 0))):
            part = view(weight, wide.shape, one, (y, x))
            part += w
            part = view(total, wide.shape, one, (y, x))
            part += w * view(wide, wide.shape, other, (y, x))
    inner = (slice(radius, radius + rows), slice(radius, radius + columns))
    return total[inner] / weight[inner]


def half_offsets(radius: int) -> list[tuple[int, int]]:
    """Return one of each two opposite offsets of a square window, without the middle.

    Examples
    --------
    >>> half_offsets(1)
    [(0, 1), (1, -1), (1, 0), (1, 1)]
    """
    return [(y, x) for y in range(radius + 1) for x in range(-radius, radius + 1) if (y, x) > (0, 0)]


def view(image: Plane, shape: tuple[int, ...], at: tuple[int, int], offset: tuple[int, int]) -> Plane:
    """Return the part of `image` that holds, for every pair of pixels `offset` apart, the member `at`: (0, 0) the first, `offset` the second."""
    spans = []
    for size, shift, place in zip(shape, offset, at, strict=True):
        start = place if shift >= 0 else place - shift
        spans.append(slice(start, start + size - abs(shift)))
    return image[tuple(spans)]


def pair(image: Plane, y: int, x: int) -> tuple[Plane, Plane]:
    """Return the two overlapping parts of `image` whose pixels are `y` rows and `x` columns apart.

    Examples
    --------
    >>> first, second = pair(np.arange(6.0).reshape(2, 3), 1, -1)
    >>> first.tolist(), second.tolist()
    ([[1.0, 2.0]], [[3.0, 4.0]])
    """
    return view(image, image.shape, (0, 0), (y, x)), view(image, image.shape, (y, x), (y, x))
