"""Crop to the lungs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared
from shared_models.core.errors import BadInput


def crop_lung(prepared: Prepared, *, margin_mm: Annotated[float, Field(ge=0, le=200)] = 10.0) -> Prepared:
    """Return image and mask cut to the box around the lungs plus `margin_mm` on every side, never beyond the image.

    Raises
    ------
    BadInput
        There is no mask, or it is empty.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> mask = np.zeros((4, 4, 4), np.uint8)
    >>> mask[2, 2, 2] = 1
    >>> crop_lung(Prepared(Volume(np.zeros((4, 4, 4), np.float32), (1, 1, 1)), mask), margin_mm=1).volume.hu.shape
    (3, 3, 3)
    """
    if prepared.mask is None or not prepared.mask.any():
        raise BadInput("crop_lung needs a lung mask that is not empty")
    box, offset = [], []
    for axis, step in enumerate(prepared.volume.spacing_mm):
        others = tuple(a for a in range(3) if a != axis)
        places = np.nonzero(prepared.mask.any(axis=others))[0]
        reach = int(np.ceil(margin_mm / step - 1e-9))
        start = max(0, int(places[0]) - reach)
        box.append(slice(start, int(places[-1]) + 1 + reach))
        offset.append(start * step)
    volume = prepared.volume
    axes = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float) if volume.direction is None else volume.direction
    origin = np.array(volume.origin_mm) + np.array(offset) @ axes
    place = (float(origin[0]), float(origin[1]), float(origin[2]))
    cut = replace(volume, hu=np.ascontiguousarray(volume.hu[tuple(box)]), origin_mm=place)
    drawn = None if prepared.annotation is None else np.ascontiguousarray(prepared.annotation[tuple(box)])
    return replace(prepared, volume=cut, mask=np.ascontiguousarray(prepared.mask[tuple(box)]), annotation=drawn)
