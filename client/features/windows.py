"""Small windows of lung as a table: histogram, moments, co-occurrences and place of every block, from which a forest learns patterns.

A window of about 9 mm is 27 blocks of about 3 mm, with a wide one of 15 mm around it; both move by a block, so every block of lung has a row.
Idea: local histograms (CALIPER; Karwoski et al., Proc SPIE 2008) with the distance to the pleura (Ash et al., Respir Res 2017;18:45).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.cases.prepared import Prepared
from client.features.pleura import depth_mm
from client.features.roi import hu_of, side_mask
from client.segmentation.components import Bits, bounding_box
from shared_models.core.errors import BadInput

BLOCK_MM = 3.0
EDGES_HU = np.linspace(-1050.0, 150.0, 33)
"""32 bins of the histogram; what lies beyond falls into the outermost."""
LEVELS_HU = np.array([-900.0, -750.0, -600.0, -400.0, -150.0])
"""Bounds of the six grey levels of the co-occurrences."""
CENTRE_HU, UNIT_HU = -700.0, 100.0
"""Moments are summed of ``(HU - CENTRE_HU) / UNIT_HU``, so that fourth powers stay exact enough."""

TEXTURE = ("mean_hu", "sd_hu", "skewness", "kurtosis", "contrast_hu", "entropy")
"""Measures of a window beside its histogram."""

_PAIRS = np.array([[min(a, b) * 6 + max(a, b) for b in range(6)] for a in range(6)])
_PAIR_NUMBERS = np.unique(_PAIRS)


def window_names() -> tuple[str, ...]:
    """Return the columns of a window in order.

    Examples
    --------
    >>> len(window_names()), window_names()[0], window_names()[-1]
    (45, 'window_cumulative_0', 'window_height_percent')
    """
    cumulative = (f"window_cumulative_{number}" for number in range(len(EDGES_HU) - 2))
    texture = (f"{window}_{name}" for window in ("window", "window_wide") for name in TEXTURE)
    return (*cumulative, *texture, "window_depth_mm", "window_height_percent")


@dataclass(frozen=True)
class Layout:
    """Where blocks lie.

    Parameters
    ----------
    voxels : ndarray of int, shape (blocks,)
        Lung voxels of each block.
    place : ndarray of int, shape (blocks,)
        Its number in the grid, rising.
    grid : tuple of int
        Blocks of the grid along (z, y, x), one empty block all around.

    Examples
    --------
    >>> row = Layout(np.ones(5, int), np.arange(5) + 22, (3, 3, 7))
    >>> row.voted(np.array([1, 1, 2, 1, 1], np.uint8)).tolist()
    [1, 1, 1, 1, 1]
    >>> row.beside(np.array([True, False, False, False, False])).tolist()
    [True, True, False, False, False]
    """

    voxels: NDArray[np.intp]
    place: NDArray[np.intp]
    grid: tuple[int, int, int]

    def voted(self, called: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the class that most lung voxels of the 27 blocks about each were called, shape (blocks,).

        Of classes with as many voxels the block's own wins, or else the first.

        A lone call among others is taken back: the smoothing of label maps over 3 x 3 x 3 places that texture analysis ends with.
        """
        own = np.eye(int(called.max(initial=0)) + 1)[called]
        return np.asarray((_box_sums(own * self.voxels[:, None], self.place, self.grid) + 0.5 * own).argmax(axis=1), np.uint8)

    def beside(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which blocks are among the 27 about a chosen one, shape (blocks,)."""
        return _box_sums(chosen[:, None].astype(np.float64), self.place, self.grid)[:, 0] > 0

    def of(self, chosen: NDArray[np.bool_]) -> Layout:
        """Return the layout of the chosen blocks alone."""
        return Layout(self.voxels[chosen], self.place[chosen], self.grid)


@dataclass(frozen=True)
class Windows:
    """The windows of a study.

    Parameters
    ----------
    rows : ndarray of float32, shape (blocks, columns)
        Columns of `window_names`: percent of the window's lung voxels below each inner edge of the histogram; mean and standard deviation; skewness
        and excess kurtosis (0 where nothing varies); root mean square difference and co-occurrence entropy (bits) of neighbours in the slice;
        the same six of a wide window of 15 mm whose middle counts most; mean depth of the block under its pleura; its height in the lungs,
        0 the lowest slice and 100 the highest.
    block : ndarray of int, shape (lung voxels,)
        Row of each voxel of ``mask > 0``, in the order of the array.
    layout : Layout
        Where the blocks lie.
    """

    rows: NDArray[np.float32]
    block: NDArray[np.intp]
    layout: Layout


def windows_of(prepared: Prepared) -> Windows:
    """Return the windows of every block that holds lung; only lung voxels count.

    Raises
    ------
    BadInput
        No lung mask, an empty one, or intensities that are no HU.
    """
    hu, lung = hu_of(prepared), side_mask(prepared)
    if prepared.mask is None or not lung.any():
        raise BadInput("windows need lung in the mask", value=0)
    box, spacing_mm = bounding_box(lung), prepared.volume.spacing_mm
    inside, image = lung[box], hu[box]
    grid, own = _blocks(inside, spacing_mm)
    blocks, block = np.unique(own, return_inverse=True)
    sums = np.concatenate([_histogram(image[inside], block, len(blocks)), _moments(image[inside], block, len(blocks))], axis=1)
    sums = np.concatenate([sums, _neighbours(image, inside, block, len(blocks))], axis=1)
    near = _box_sums(sums, blocks, grid)
    cumulative, texture = _texture(near)
    wide = _texture(_box_sums(near, blocks, grid))[1]
    place = _place(prepared.mask[box], inside, block, len(blocks), spacing_mm)
    return Windows(np.concatenate([cumulative, texture, wide, place], axis=1, dtype=np.float32), block, Layout(np.bincount(block), blocks, grid))


def _blocks(inside: Bits, spacing_mm: tuple[float, float, float]) -> tuple[tuple[int, int, int], NDArray[np.intp]]:
    """Return the shape of the grid of blocks, one empty block all around, and the number of the block of each lung voxel in it."""
    at = [_block_numbers(n, step)[where] for n, step, where in zip(inside.shape, spacing_mm, np.nonzero(inside), strict=True)]
    z, y, x = (int(_block_numbers(n, step)[-1]) + 3 for n, step in zip(inside.shape, spacing_mm, strict=True))
    return (z, y, x), np.ravel_multi_index([number + 1 for number in at], (z, y, x))


def _block_numbers(count: int, step_mm: float) -> NDArray[np.intp]:
    """Return the block of each of `count` voxels along an axis: that in which its centre lies; a voxel wider than a block is one."""
    return np.floor((np.arange(count) + 0.5) * min(1.0, step_mm / BLOCK_MM)).astype(np.intp)


def _histogram(hu: NDArray[np.float32], block: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    bins = len(EDGES_HU) - 1
    level = np.clip(np.digitize(hu, EDGES_HU) - 1, 0, bins - 1)
    return np.bincount(block * bins + level, minlength=count * bins).reshape(count, bins).astype(np.float64)


def _moments(hu: NDArray[np.float32], block: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    unit = (hu.astype(np.float64) - CENTRE_HU) / UNIT_HU
    return np.stack([np.bincount(block, unit**power, count) for power in (1, 2, 3, 4)], axis=1).astype(np.float64)


def _neighbours(image: NDArray[np.float32], inside: Bits, block: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Return for each block the number of pairs of neighbours in the slice, their squared differences, and how often each pair of levels meets."""
    number = np.zeros(inside.shape, np.intp)
    number[inside] = block
    level = np.digitize(image, LEVELS_HU)
    out = np.zeros((count, 2 + len(_PAIR_NUMBERS)))
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:, :, :-1], np.s_[:, :, 1:])):
        both = inside[here] & inside[there]
        of = number[here][both]
        apart = (image[here][both] - image[there][both]).astype(np.float64)
        pair = np.searchsorted(_PAIR_NUMBERS, _PAIRS[level[here][both], level[there][both]])
        out[:, 0] += np.bincount(of, minlength=count)
        out[:, 1] += np.bincount(of, apart**2, count)
        out[:, 2:] += np.bincount(of * len(_PAIR_NUMBERS) + pair, minlength=count * len(_PAIR_NUMBERS)).reshape(count, -1)
    return out


def _box_sums(own: NDArray[np.float64], blocks: NDArray[np.intp], grid: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the sums over the 27 blocks about each; the empty rim keeps the ends of rows apart.

    Along one axis after the other, with the blocks without lung through which a diagonal neighbour is reached.
    """
    row, plane = grid[2], grid[1] * grid[2]
    through = np.unique(np.concatenate([blocks + y + z for y in (-row, 0, row) for z in (-plane, 0, plane)]))
    number = np.full(math.prod(grid) + 2 * plane, len(through), np.intp)  # the last is of a block that nothing reaches
    number[through] = np.arange(len(through))
    total = np.zeros((len(through) + 1, own.shape[1]))
    total[number[blocks]] = own
    for step in (1, row, plane):
        total[:-1] += total[number[through - step]] + total[number[through + step]]
    return total[number[blocks]]


def _place(
    labels: NDArray[np.uint8], inside: Bits, block: NDArray[np.intp], count: int, spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return mean depth (mm) and height (percent) of each block's own voxels, shape (blocks, 2)."""
    held = np.bincount(block, minlength=count)
    deep = np.bincount(block, depth_mm(labels, spacing_mm)[inside], count) / held
    high = np.bincount(block, np.nonzero(inside)[0], count) / held
    return np.stack([deep, 100.0 * high / max(1, len(inside) - 1)], axis=1)


def _texture(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cumulative histogram in percent, and the columns of `TEXTURE`."""
    bins = len(EDGES_HU) - 1
    ends = (0, bins, bins + 4, bins + 5, bins + 6, sums.shape[1])
    counts, powers, pairs, apart, meets = (sums[:, first:last] for first, last in itertools.pairwise(ends))
    n = counts.sum(axis=1, keepdims=True)
    m1, m2, m3, m4 = (powers / n).T
    variance = np.maximum(m2 - m1**2, 0.0)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    even = variance < 1e-4  # a hundredth of UNIT_HU: nothing varies, and rounding would speak
    safe = np.where(even, 1.0, variance)
    skewness, kurtosis = np.where(even, 0.0, third / safe**1.5), np.where(even, 0.0, fourth / safe**2 - 3.0)
    met = np.maximum(pairs, 1.0)
    share = meets / met
    entropy = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=1)
    texture = [CENTRE_HU + UNIT_HU * m1, UNIT_HU * np.sqrt(variance), skewness, kurtosis, np.sqrt(apart / met)[:, 0], entropy]
    return 100.0 * counts[:, :-1].cumsum(axis=1) / n, np.stack(texture, axis=1)
