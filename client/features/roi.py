"""The voxels a family describes: one side's lung or both, cut out of the study; refused where the numbers are no HU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from client.cases.prepared import Prepared
from client.segmentation.components import Bits, bounding_box
from client.segmentation.sides import LEFT, RIGHT
from shared_models.core.arrays import HU
from shared_models.core.errors import BadInput

Side: TypeAlias = Literal["whole", "right", "left"]
"""Both lungs, or one of the patient's own sides."""


def side_mask(prepared: Prepared, side: Side = "whole") -> Bits:
    """Return the voxels of one side, shape (z, y, x).

    Raises
    ------
    BadInput
        There is no lung mask.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> labels = np.array([[[0, 1, 2]]], np.uint8)
    >>> side_mask(Prepared(Volume(np.zeros((1, 1, 3), np.float32), (1, 1, 1)), labels), "left").ravel().tolist()
    [False, False, True]
    """
    if prepared.mask is None:
        raise BadInput("these features need a lung mask", remedy="segment first")
    return prepared.mask > 0 if side == "whole" else prepared.mask == (RIGHT if side == "right" else LEFT)


def hu_of(prepared: Prepared) -> HU:
    """Return the image, whose numbers must still be Hounsfield units.

    Raises
    ------
    BadInput
        A step has changed the intensities.
    """
    if not prepared.is_hu:
        raise BadInput("these features need Hounsfield units", value="an image whose intensities were changed", remedy="describe before such a step")
    return prepared.volume.hu


def cut_out(prepared: Prepared, side: Side = "whole") -> tuple[HU, Bits]:
    """Return image and mask of one side, cut to the smallest box that holds the mask; an empty mask gives arrays of shape (0, 0, 0)."""
    hu, mask = hu_of(prepared), side_mask(prepared, side)
    if not mask.any():
        return np.zeros((0, 0, 0), np.float32), np.zeros((0, 0, 0), bool)
    box = bounding_box(mask)
    return hu[box], mask[box]


def columns(family: str, measures: Sequence[str], side: Side) -> tuple[str, ...]:
    """Return the names of a family's columns: those of pyradiomics, with the side before them where it is one lung only.

    Examples
    --------
    >>> columns("glcm", ["Contrast"], "whole"), columns("glcm", ["Contrast"], "left")
    (('original_glcm_Contrast',), ('left_original_glcm_Contrast',))
    """
    before = "" if side == "whole" else f"{side}_"
    return tuple(f"{before}original_{family}_{measure}" for measure in measures)


def named(family: str, measures: Sequence[str], side: Side, found: Mapping[str, float] | None) -> dict[str, float]:
    """Return measures under their column names, in order; NaN for all of them where nothing could be measured (`found` is None)."""
    values = {} if found is None else found
    return {column: float(values.get(m, math.nan)) for column, m in zip(columns(family, measures, side), measures, strict=True)}
