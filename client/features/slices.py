"""Axial slices for descriptors that were defined on pictures: which ones, cut to the lung, and the display window they are seen through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from client.cases.prepared import Prepared
from client.features.roi import Side, cut_out
from client.segmentation.components import Bits
from shared_models.core.arrays import HU

SliceCount: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
"""How many slices are looked at; a lung of fewer is looked at whole."""

LOWEST_HU, HIGHEST_HU = -1350.0, 150.0
"""The lung window of radiology (level -600, width 1500), in which picture descriptors see the lung."""


def lung_slices(prepared: Prepared, side: Side, slices: int) -> Iterator[tuple[HU, Bits]]:
    """Yield HU and mask, shape (y, x), of `slices` slices at even steps over the height of the lung, cut to the lung's box.

    Slice k of n is the one at the middle of the k-th of n equal parts of the height, so that more slices are no other slices' neighbours.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> hu = np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    >>> study = Prepared(Volume(hu, (1.0, 1.0, 1.0)), np.ones((6, 1, 1), np.uint8))
    >>> [float(image.max()) for image, mask in lung_slices(study, "whole", 3)]
    [1.0, 3.0, 5.0]
    """
    hu, mask = cut_out(prepared, side)
    height = len(hu)
    chosen = sorted({int((k + 0.5) * height / slices) for k in range(slices)}) if height > slices else range(height)
    for z in chosen:
        if mask[z].any():
            yield hu[z], mask[z]


def windowed(hu: HU) -> NDArray[np.float64]:
    """Return the lung window as numbers from 0 to 1.

    Examples
    --------
    >>> windowed(np.array([-2000.0, -600.0, 400.0], np.float32)).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.clip((hu.astype(np.float64) - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU), 0.0, 1.0)


def filled(image: NDArray[np.float64], mask: Bits) -> NDArray[np.float64]:
    """Return the picture with everything outside the lung at the lung's mean, so that the chest wall is no edge."""
    return np.where(mask, image, image[mask].mean())
