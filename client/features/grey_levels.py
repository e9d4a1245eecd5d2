"""Grey levels of a region: HU in bins of one width, on a grid with a border, and the directions in which neighbours lie.

All texture matrices begin here. Discretisation is that of pyradiomics (bins equally spaced from 0 HU, level 1 holds the lowest value of
the region), which the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology 2020, reference manual 2.7) calls fixed bin
size, apart from where the first bin begins.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.prepared import Prepared
from client.features.roi import Side, cut_out
from client.segmentation.components import Bits
from shared_models.core.arrays import HU
from shared_models.core.errors import BadInput

BinWidth: TypeAlias = Annotated[float, Field(ge=1, le=400)]
"""Width of a grey level, HU."""

MOST_LEVELS = 1024


@dataclass(frozen=True)
class GreyLevels:
    """A region in grey levels.

    Parameters
    ----------
    grid : ndarray of uint8 or uint16, shape (z + 2, y + 2, x + 2)
        Grey levels from 1 on; 0 outside the region, and all around.
    inside : ndarray of int, shape (n,)
        Places of the region's voxels in the flat `grid`.
    values : ndarray, shape (n,)
        Their grey levels.
    """

    grid: NDArray[np.uint8] | NDArray[np.uint16]
    inside: NDArray[np.intp]
    values: NDArray[np.intp]

    @property
    def highest(self) -> int:
        """The highest grey level, Ng; 0 for an empty region."""
        return int(self.values.max()) if len(self.values) else 0

    def offset(self, direction: tuple[int, int, int]) -> int:
        """Return the step in the flat grid that leads to the neighbour in `direction`."""
        _, height, width = self.grid.shape
        return (direction[0] * height + direction[1]) * width + direction[2]


def grey_levels(prepared: Prepared, side: Side, bin_width_hu: float) -> GreyLevels:
    """Return the grey levels of one side's lung.

    Raises
    ------
    BadInput
        No lung mask, no Hounsfield units, or more than 1024 grey levels.
    """
    return discretised(*cut_out(prepared, side), bin_width_hu)


def discretised(hu: HU, mask: Bits, bin_width_hu: float) -> GreyLevels:
    """Return floor(HU / width) - floor(lowest HU / width) + 1 inside the mask, 0 elsewhere.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units.
    mask : ndarray of bool, shape (z, y, x)
        The region.
    bin_width_hu : float
        Width of a grey level, HU.

    Raises
    ------
    BadInput
        A value that is no number, or more than 1024 grey levels.

    Examples
    --------
    >>> discretised(np.array([[[-30, -25, 0, 49]]], np.float32), np.ones((1, 1, 4), bool), 25.0).values.tolist()
    [1, 2, 3, 4]
    """
    inside = np.flatnonzero(np.pad(mask, 1))
    if len(inside) == 0:
        return GreyLevels(np.zeros(tuple(n + 2 for n in mask.shape), np.uint8), inside, inside)
    binned = np.floor(hu[mask].astype(np.float64) / bin_width_hu)
    low, high = float(binned.min()), float(binned.max())
    if not high - low < MOST_LEVELS:
        raise BadInput(
            f"a region may have at most {MOST_LEVELS} grey levels", value=f"{low * bin_width_hu:g} to {high * bin_width_hu:g} HU",
            remedy="widen bin_width_hu, or look for metal or padding inside the mask",
        )  # fmt: skip
    values = (binned - (low - 1)).astype(np.intp)
    shape = tuple(n + 2 for n in mask.shape)
    grid = np.zeros(shape, np.uint8) if high - low < 255 else np.zeros(shape, np.uint16)
    grid.ravel()[inside] = values
    return GreyLevels(grid, inside, values)


def directions(grid_shape: tuple[int, ...], *, flat: bool = False) -> list[tuple[int, int, int]]:
    """Return one of each pair of opposite directions to the 26 neighbours (to the 8 of the same slice if `flat`): 13, or 4.

    Along an axis on which the region is one voxel thick there is no direction.

    Parameters
    ----------
    grid_shape : tuple of int
        Shape of `GreyLevels.grid`, border included.
    flat : bool
        Stay within a slice.

    Examples
    --------
    >>> len(directions((9, 9, 9))), len(directions((9, 9, 9), flat=True)), directions((3, 3, 9))
    (13, 4, [(0, 0, 1)])
    """
    thick = tuple(n > 3 for n in grid_shape)
    steps = itertools.product(*((-1, 0, 1) if wide and not (flat and axis == 0) else (0,) for axis, wide in enumerate(thick)))
    return [(z, y, x) for z, y, x in steps if (z, y, x) > (0, 0, 0)]
