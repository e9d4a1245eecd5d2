"""A CT on its way through preparation: image, lung mask, and whether its numbers are still Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass, replace

from client.cases.volume import Volume
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput


@dataclass(frozen=True)
class Prepared:
    """What a preprocessing step takes and returns.

    Parameters
    ----------
    volume : Volume
        Image, shape (z, y, x). Its numbers are Hounsfield units exactly when `is_hu` holds.
    mask : ndarray of uint8, shape (z, y, x), optional
        Lung labels on the same grid: 0 elsewhere, 1 right lung, 2 left lung (the patient's own sides). None before segmentation.
    is_hu : bool
        False once a step has clipped, windowed or stretched the intensities; such an image never reaches a density feature.
    annotation : ndarray of uint8, shape (z, y, x), optional
        Codes of `PATTERNS` that a reader has drawn, 255 where nobody has looked. None for a series without an annotation.

    Raises
    ------
    BadInput
        Mask or annotation and image differ in shape.
    """

    volume: Volume
    mask: Mask | None = None
    is_hu: bool = True
    annotation: Mask | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.shape != self.volume.hu.shape:
            raise BadInput("mask and image must have one shape", value=(self.mask.shape, self.volume.hu.shape))
        if self.annotation is not None and self.annotation.shape != self.volume.hu.shape:
            raise BadInput("annotation and image must have one shape", value=(self.annotation.shape, self.volume.hu.shape))

    def with_image(self, volume: Volume, *, is_hu: bool) -> Prepared:
        """Return a copy with another image on the same grid; once intensities are no HU they never become HU again."""
        return replace(self, volume=volume, is_hu=self.is_hu and is_hu)
