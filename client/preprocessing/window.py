"""Window: the grey values a radiologist sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from client.cases.prepared import Prepared


def window(prepared: Prepared, *, level_hu: float = -600.0, width_hu: Annotated[float, Field(gt=1)] = 1500.0) -> Prepared:
    """Return grey values 0 to 255: 255 * (HU - level + width / 2) / width, clipped (the linear function of PS3.3 C.11.2.1.3.2).

    The default is the usual lung window. `is_hu` falls.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> step = window(Prepared(Volume(np.array([[[-1350.0, -600, 150]]], np.float32), (1, 1, 1))))
    >>> step.volume.hu.tolist(), step.is_hu
    ([[[0.0, 127.5, 255.0]]], False)
    """
    low = np.float32(level_hu - width_hu / 2)
    grey = np.subtract(prepared.volume.hu, low, dtype=np.float32)
    grey *= np.float32(255.0 / width_hu)
    np.clip(grey, 0.0, 255.0, out=grey)
    return prepared.with_image(replace(prepared.volume, hu=grey), is_hu=False)
