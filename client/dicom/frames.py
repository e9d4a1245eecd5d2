"""Multi-frame CT (Enhanced and Legacy Converted Enhanced CT, PS3.3 A.38 and A.70): each frame a slice, from its functional groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset

from client.dicom import tags
from client.dicom.slices import SliceFile

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
WORDS = ("SliceThickness", "ConvolutionKernel", "KVP", "RescaleType", "PatientOrientation", "PatientPosition")
"""What a single-frame header says at its top and a multi-frame one in a functional group."""


def frames_of(header: Dataset, whole: SliceFile, frame_bytes: int) -> list[SliceFile] | str:
    """Return the frames of a multi-frame file as slices, or the reason why it cannot be used.

    Rescale is taken per frame. Frames that say they are derived or localizers are left out.

    Parameters
    ----------
    header : Dataset
        The whole header, up to the pixels.
    whole : SliceFile
        What holds for all frames; geometry and rescale of it are replaced.
    frame_bytes : int
        Bytes of one frame where the pixels lie in the file uncompressed.
    """
    shared, many = (header.get(name) or [] for name in GROUPS)
    count = int(header.get("NumberOfFrames", 1) or 1)
    if count > tags.MAX_SLICES:
        return "TOO_MANY_SLICES"
    if len(many) != count or not count:
        return "NO_GEOMETRY"
    common = shared[0] if len(shared) else Dataset()
    slices: list[SliceFile] = []
    turned_away = ""
    for number, own in enumerate(many):
        position = _floats(_value(own, common, "PlanePositionSequence", "ImagePositionPatient"), 3)
        orientation = _floats(_value(own, common, "PlaneOrientationSequence", "ImageOrientationPatient"), 6)
        spacing = _floats(_value(own, common, "PixelMeasuresSequence", "PixelSpacing"), 2)
        if not position or not orientation or not spacing or not all(0.01 < s < 20 for s in spacing) or not is_frame(orientation):
            return "NO_GEOMETRY"
        words = [str(word).upper() for word in _many(_value(own, common, "CTImageFrameTypeSequence", "FrameType"))]
        reason = next((tags.IMAGE_TYPES_TURNED_AWAY[word] for word in words if word in tags.IMAGE_TYPES_TURNED_AWAY), "")
        if reason:
            turned_away = reason
            continue
        slope = _floats(_value(own, common, "PixelValueTransformationSequence", "RescaleSlope"), 1)
        intercept = _floats(_value(own, common, "PixelValueTransformationSequence", "RescaleIntercept"), 1)
        kind = str(_value(own, common, "PixelValueTransformationSequence", "RescaleType") or "")
        stack = str(_value(own, common, "FrameContentSequence", "StackID") or "")
        moment = str(_value(own, common, "FrameContentSequence", "TemporalPositionIndex") or "")
        slices.append(
            replace(
                whole,
                image_uid=f"{whole.image_uid or whole.path}.{number + 1}",
                acquisition=f"{stack}|{moment}",
                position_mm=(position[0], position[1], position[2]),
                orientation=orientation,
                spacing_mm=(spacing[0], spacing[1]),
                slope=slope[0] if slope else 1.0,
                intercept=intercept[0] if intercept else 0.0,
                rescale_given=bool(slope and intercept) and kind.upper() in ("HU", ""),
                pixel_offset=whole.pixel_offset + number * frame_bytes if whole.pixel_offset >= 0 else -1,
                frame=number,
            )
        )
    return slices or turned_away


def flattened(header: Dataset, frame: int) -> Dataset:
    """Return a multi-frame header with the words of one frame's functional groups at its top, where a CT slice has them; changed in place."""
    shared, many = (header.get(name) or [] for name in GROUPS)
    for groups in (*shared[:1], *many[frame : frame + 1]):
        for element in groups:
            if element.VR != "SQ" or element.tag.is_private or not len(element.value):
                continue
            for word in WORDS:
                if word in element.value[0] and word not in header:
                    setattr(header, word, element.value[0].get(word))
    if len(header.get("ContrastBolusAgentSequence") or []) and "ContrastBolusAgent" not in header:
        header.ContrastBolusAgent = "in a sequence"
    return header


def is_frame(orientation: tuple[float, ...]) -> bool:
    """Return whether six numbers are two unit vectors at right angles.

    Examples
    --------
    >>> is_frame((1, 0, 0, 0, 1, 0)), is_frame((1, 0, 0, 1, 0, 0))
    (True, False)
    """
    r, c = orientation[:3], orientation[3:]
    lengths = sum(v * v for v in r), sum(v * v for v in c)
    return all(abs(v - 1) < 0.02 for v in lengths) and abs(sum(a * b for a, b in zip(r, c, strict=True))) < 0.02


def _value(own: Dataset, common: Dataset, group: str, keyword: str) -> Any:
    for place in (own, common):
        items = place.get(group)
        if items and keyword in items[0]:
            return items[0].get(keyword)
    return None


def _many(value: Any) -> Iterator[Any]:
    if value is None:
        return iter(())
    return iter((value,)) if isinstance(value, str) or not hasattr(value, "__iter__") else iter(value)


def _floats(value: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in _many(value))
    return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else ()
