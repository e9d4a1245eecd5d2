"""A CT volume: Hounsfield units with their geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_models.core.arrays import HU
from shared_models.core.errors import BadStudy


@dataclass(frozen=True)
class Volume:
    """Hounsfield units on a regular grid in the patient's coordinate system.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Hounsfield units; z grows towards the head, y towards the back, x towards the patient's left, so slice 0 is nearest the feet.
    spacing_mm : tuple of float
        Distance between voxel centres along (z, y, x), millimetres.
    origin_mm : tuple of float
        Position of voxel (0, 0, 0) as DICOM (x, y, z) in LPS, millimetres.
    direction : ndarray, shape (3, 3)
        Rows are the unit vectors, in LPS (x, y, z), along which z, y and x indices grow.

    Examples
    --------
    >>> Volume(np.zeros((4, 8, 8), np.float32), (2.0, 1.0, 1.0)).voxel_ml
    0.002
    """

    hu: HU
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise BadStudy("NOT_A_VOLUME", "a volume has axes z y x", value=self.hu.shape)
        if any(not s > 0 for s in self.spacing_mm):
            raise BadStudy("BAD_SPACING", "spacing must be positive in z, y and x", value=self.spacing_mm)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        z, y, x = self.spacing_mm
        return z * y * x / 1000.0
