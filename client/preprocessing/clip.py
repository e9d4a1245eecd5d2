"""Clip intensities to a range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client.cases.prepared import Prepared
from shared_models.core.errors import BadInput


def clip(prepared: Prepared, *, low_hu: float = -1024.0, high_hu: float = 600.0) -> Prepared:
    """Return the image with values outside ``[low_hu, high_hu]`` set to the nearer end. Its moments are no longer those of the CT: `is_hu` falls.

    Raises
    ------
    BadInput
        `low_hu` is not below `high_hu`.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> step = clip(Prepared(Volume(np.array([[[-2000.0, 0, 900]]], np.float32), (1, 1, 1))))
    >>> step.volume.hu.tolist(), step.is_hu
    ([[[-1024.0, 0.0, 600.0]]], False)
    """
    if not low_hu < high_hu:
        raise BadInput("clip needs low_hu below high_hu", value=(low_hu, high_hu))
    return prepared.with_image(replace(prepared.volume, hu=np.clip(prepared.volume.hu, np.float32(low_hu), np.float32(high_hu))), is_hu=False)
