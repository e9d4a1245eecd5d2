"""Adaptive Wiener filter in the plane."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from client.cases.prepared import Prepared
from client.preprocessing.planes import Plane, each_slice, odd


def wiener(
    prepared: Prepared, *, size: Annotated[int, Field(ge=3, le=15)] = 5, noise_hu: Annotated[float, Field(gt=0, le=300)] | None = None
) -> Prepared:
    """Return every slice with each pixel pulled to its local mean, the more the less the surroundings vary beyond the noise; still HU.

    With local mean m and variance v over the window and noise variance n: ``m + max(0, v - n) / max(v, n) * (x - m)``.

    Parameters
    ----------
    prepared : Prepared
        Image, shape (z, y, x).
    size : int
        Edge of the window in pixels, odd.
    noise_hu : float, optional
        Standard deviation of the noise. By default that of each slice itself: the root of the median local variance. Lim takes the mean; in a
        chest the edges of bone and lung would then count as noise.

    Raises
    ------
    BadInput
        An even window.

    References
    ----------
    Lim, Two-dimensional signal and image processing, 1990, p. 548.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> noisy = np.random.default_rng(0).normal(0, 20, (1, 64, 64)).astype(np.float32)
    >>> bool(wiener(Prepared(Volume(noisy, (1, 1, 1))), noise_hu=20).volume.hu.std() < 10)
    True
    """
    odd(size, rule="a Wiener window has a middle")
    return each_slice(prepared, lambda plane: wiener_plane(plane, size, noise_hu), is_hu=True)


def wiener_plane(plane: Plane, size: int, noise_hu: float | None) -> Plane:
    """Return one filtered slice, mirrored at its border."""
    mean, variance = local_moments(plane, size)
    noise = float(np.median(variance)) if noise_hu is None else noise_hu**2
    floor = np.maximum(variance, np.float32(noise))
    share = np.divide(np.maximum(variance - np.float32(noise), 0), floor, out=np.ones_like(floor), where=floor > 0)
    return np.asarray(mean + share * (plane - mean), np.float32)


def local_moments(plane: Plane, size: int) -> tuple[Plane, Plane]:
    """Return mean and (population) variance of the `size` x `size` pixels around each pixel, mirrored at the border.

    Examples
    --------
    >>> mean, variance = local_moments(np.array([[0, 0, 3]] * 3, np.float32), 3)
    >>> float(mean[1, 1]), round(float(variance[1, 1]), 5)
    (1.0, 2.0)
    """
    middle = np.float32(plane.mean())  # squares of small numbers keep their digits
    centred = plane - middle
    mean, squares = (np.asarray(ndimage.uniform_filter(image, size, mode="reflect"), np.float32) for image in (centred, centred * centred))
    return mean + middle, np.maximum(squares - mean * mean, 0)
