"""A bag of visual words: SIFT keypoints of the lung (Lowe 2004), each counted under the word of a dictionary it is nearest to.

A dictionary learnt from patients is a small part of those patients, and one learnt from each study alone means another word at each. This
one is learnt from seeded synthetic textures (nets, cysts, nodules, noise of four grains) whenever a process first needs it: it is the same
everywhere, and nothing of a patient is in it.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import KDTree
from skimage.feature import SIFT

from client.cases.prepared import Prepared
from client.features.roi import Side
from client.features.slices import SliceCount, filled, lung_slices, windowed
from client.segmentation.components import Bits

Words: TypeAlias = Annotated[int, Field(ge=8, le=256)]
"""Size of the dictionary."""

SEED = 20190
TEXTURE_PIXELS = 128
ROUNDS = 12
"""Rounds of k-means; the dictionary need not be the best, only the same."""

SMALLEST_PIXELS = 16


def sift_names(*, side: Side = "whole", words: Words = 32) -> tuple[str, ...]:
    """Return the columns of `sift` in order.

    Examples
    --------
    >>> len(sift_names()), sift_names()[0], sift_names(words=8)[-1]
    (33, 'sift_keypoints_per_cm2', 'sift_word_7')
    """
    before = "" if side == "whole" else f"{side}_"
    return (f"{before}sift_keypoints_per_cm2", *(f"{before}sift_word_{word}" for word in range(words)))


def sift(prepared: Prepared, *, side: Side = "whole", slices: SliceCount = 8, words: Words = 32) -> dict[str, float]:
    """Return how many keypoints the lung has, and the share of each word among them.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    slices : int
        How many slices, at even steps over the height of the lung, each in the lung window with its surroundings at the lung's mean.
    words : int
        Size of the dictionary.

    Returns
    -------
    dict
        Keys of `sift_names`; the shares add up to 1, or are all 0 for a lung without keypoints; NaN for an empty region.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    counts, area_cm2 = np.zeros(words, np.int64), 0.0
    _, dy, dx = prepared.volume.spacing_mm
    for hu, mask in lung_slices(prepared, side, slices):
        area_cm2 += int(mask.sum()) * dy * dx / 100.0
        counts += np.bincount(word_of(keypoints(filled(windowed(hu), mask), mask)[1], dictionary(words)), minlength=words)
    if area_cm2 == 0:
        return dict.fromkeys(sift_names(side=side, words=words), math.nan)
    total = int(counts.sum())
    return dict(zip(sift_names(side=side, words=words), [total / area_cm2, *(counts / max(total, 1)).tolist()], strict=True))


def keypoints(picture: NDArray[np.float64], mask: Bits) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the places of the keypoints that lie in the mask and their descriptors, each of length 1.

    Parameters
    ----------
    picture : ndarray, shape (y, x)
        Grey values from 0 to 1.
    mask : ndarray of bool, shape (y, x)
        Where keypoints count.

    Returns
    -------
    tuple of ndarray
        Row and column of each, shape (n, 2), and descriptors, shape (n, 128).
    """
    nothing = np.zeros((0, 2), np.intp), np.zeros((0, 128))
    if min(picture.shape) < SMALLEST_PIXELS:
        return nothing
    finder = SIFT(upsampling=1, n_octaves=4, c_dog=0.01)
    try:
        finder.detect_and_extract(picture)
    except RuntimeError:  # "SIFT found no features": its way to say none
        return nothing
    places = np.asarray(finder.keypoints, np.intp).reshape(-1, 2)
    inside = mask[places[:, 0], places[:, 1]]
    found = np.asarray(finder.descriptors, np.float64).reshape(-1, 128)[inside]
    return places[inside], found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def word_of(found: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the nearest centre of each descriptor.

    Examples
    --------
    >>> word_of(np.array([[1.0, 0.1]]), np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [1]
    """
    return ((centres**2).sum(axis=1) - 2 * found @ centres.T).argmin(axis=1)


@functools.cache
def dictionary(words: int) -> NDArray[np.float64]:
    """Return the centres of k-means over the descriptors of the synthetic textures, shape (words, 128); the same in every process."""
    samples = _samples()
    random = np.random.default_rng(SEED)
    centres = samples[[int(random.integers(len(samples)))]]
    nearest = ((samples - centres[0]) ** 2).sum(axis=1)
    while len(centres) < words:  # k-means++: further seeds are drawn in proportion to their squared distance
        chosen = int(np.searchsorted(np.cumsum(nearest), random.random() * nearest.sum()))
        centres = np.vstack([centres, samples[min(chosen, len(samples) - 1)]])
        nearest = np.minimum(nearest, ((samples - centres[-1]) ** 2).sum(axis=1))
    for _ in range(ROUNDS):
        own = word_of(samples, centres)
        counts = np.bincount(own, minlength=words)
        sums = np.zeros_like(centres)
        np.add.at(sums, own, samples)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return centres


@functools.cache
def _samples() -> NDArray[np.float64]:
    everywhere = np.ones((TEXTURE_PIXELS, TEXTURE_PIXELS), bool)
    return np.concatenate([keypoints(picture, everywhere)[1] for picture in textures()])


def textures() -> list[NDArray[np.float64]]:
    """Return the pictures that the dictionary is learnt from, grey values from 0 to 1 as the lung window has them."""
    random = np.random.default_rng(SEED)
    y, x = np.mgrid[:TEXTURE_PIXELS, :TEXTURE_PIXELS]
    places = np.stack([y.ravel(), x.ravel()], axis=1)
    frequency = np.hypot(np.fft.fftfreq(TEXTURE_PIXELS)[:, None], np.fft.fftfreq(TEXTURE_PIXELS))
    found = []
    for wavelength in (4, 8, 16, 32):  # noise of one grain
        band = np.exp(-((frequency * wavelength - 1) ** 2) * 4)
        field = np.fft.ifft2(np.fft.fft2(random.normal(size=y.shape)) * band).real
        found.append(0.35 + 0.1 * field / field.std())
    for cell in (8, 14, 24):  # cells around random seeds: their walls (reticulation), and their insides (cysts)
        seeds = random.uniform(-cell, TEXTURE_PIXELS + cell, (int((TEXTURE_PIXELS / cell + 2) ** 2), 2))
        first, second = KDTree(seeds).query(places, k=2)[0].T
        walls = np.exp(-(((second - first) / 1.5) ** 2)).reshape(y.shape)
        cysts = np.exp(-((first / (0.3 * cell)) ** 2)).reshape(y.shape)
        found += [0.35 + 0.5 * walls, 0.8 - 0.6 * cysts]
    for radius in (2.0, 4.0):  # vessels cut across, and nodules
        seeds = random.uniform(0, TEXTURE_PIXELS, (60, 2))
        near = KDTree(seeds).query(places)[0].reshape(y.shape)
        found.append(0.35 + 0.5 * np.exp(-((near / radius) ** 2)))
    return [np.clip(picture, 0.0, 1.0) for picture in found]
