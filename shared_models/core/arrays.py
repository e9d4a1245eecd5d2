"""Names for the arrays that travel through the house. Axes are always z y x: z towards the head, y towards the
back, x towards the patient's left.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = dict[str, np.ndarray]
"""All that travels of a model: parameter name to array. Plain numpy, never a pickle."""

HU: TypeAlias = NDArray[np.float32]
"""Hounsfield units, shape (z, y, x) or (y, x)."""

Mask: TypeAlias = NDArray[np.uint8]
"""Label image of the same shape as its `HU`: 0 is background."""
