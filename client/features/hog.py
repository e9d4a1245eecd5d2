"""Histograms of oriented gradients (Dalal and Triggs 2005), summed up over the cells that lie in the lung."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field
from skimage.feature import hog as cell_histograms

from client.cases.prepared import Prepared
from client.features.roi import Side
from client.features.slices import SliceCount, filled, lung_slices, windowed

ORIENTATIONS = 9
"""As published. A quarter turn of the picture moves them by four and a half: of an even number it would be a permutation."""
BLOCK = 2
"""Cells along each edge of a block, within which histograms are normalised (L2-Hys)."""


def hog_names(*, side: Side = "whole") -> tuple[str, ...]:
    """Return the columns of `hog` in order.

    Examples
    --------
    >>> len(hog_names()), hog_names()[0], hog_names()[-1]
    (18, 'hog_mean_0', 'hog_sd_8')
    """
    before = "" if side == "whole" else f"{side}_"
    return tuple(f"{before}hog_{measure}_{bin}" for measure in ("mean", "sd") for bin in range(ORIENTATIONS))


def hog(
    prepared: Prepared, *, side: Side = "whole", slices: SliceCount = 16, cell_voxels: Annotated[int, Field(ge=4, le=64)] = 8
) -> dict[str, float]:
    """Return mean and standard deviation, over cells, of each of nine orientations of the gradient.

    Orientation b of 9 is that of gradients at 20 b to 20 (b + 1) degrees to the rows, signs left out. Each slice is seen in the lung window,
    with everything outside the lung at the lung's mean; blocks whose cells lie in the lung by half of their voxels or more are kept.

    Parameters
    ----------
    prepared : Prepared
        Study in HU with its lung mask, shape (z, y, x).
    side : {"whole", "right", "left"}
        Which lung.
    slices : int
        How many slices, at even steps over the height of the lung.
    cell_voxels : int
        Edge of a cell, voxels.

    Returns
    -------
    dict
        Keys of `hog_names`; NaN where no block lies in the lung.

    Raises
    ------
    BadInput
        No lung mask, or intensities that are no HU.
    """
    found = [np.zeros((0, ORIENTATIONS))]
    for hu, mask in lung_slices(prepared, side, slices):
        rows, columns = (n // cell_voxels for n in mask.shape)
        if min(rows, columns) < BLOCK:
            continue
        blocks = cell_histograms(
            filled(windowed(hu), mask),
            orientations=ORIENTATIONS,
            pixels_per_cell=(cell_voxels, cell_voxels),
            cells_per_block=(BLOCK, BLOCK),
            block_norm="L2-Hys",
            feature_vector=False,
        )
        cells = mask[: rows * cell_voxels, : columns * cell_voxels].reshape(rows, cell_voxels, columns, cell_voxels).mean(axis=(1, 3)) >= 0.5
        inside = np.lib.stride_tricks.sliding_window_view(cells, (BLOCK, BLOCK)).all(axis=(2, 3))  # pyright: ignore[reportCallIssue,reportArgumentType]
        found.append(np.asarray(blocks)[inside].reshape(-1, ORIENTATIONS))
    cells = np.concatenate(found)
    values = [math.nan] * 2 * ORIENTATIONS if len(cells) == 0 else [*cells.mean(axis=0).tolist(), *cells.std(axis=0).tolist()]
    return dict(zip(hog_names(side=side), values, strict=True))
