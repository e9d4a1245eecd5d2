"""One file's header, judged: a CT slice with what is needed to place and decode it, or a reason to turn the file away.

A header is read once. For uncompressed slices the place of the pixels in the file is kept, so that `pixels` reads nothing twice.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from client.cases.identity import canonical_id
from client.dicom import tags
from client.dicom.frames import flattened, frames_of, is_frame
from client.dicom.slices import Dismissed, SliceFile


def read_header(path: str) -> SliceFile | Dismissed:
    """Return the first slice of a file, or why it has none; see `read_slices`."""
    return read_slices(path)[0]


def read_slices(path: str) -> list[SliceFile] | list[Dismissed]:
    """Read one file up to its pixels: the CT slices in it, or the reason to turn it away. Never raises for what the file holds."""
    found, uid = _read(path)
    return [Dismissed(found, (path,), uid)] if isinstance(found, str) else found


def _read(path: str) -> tuple[list[SliceFile] | str, str]:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return "LINK", ""
        size = status.st_size
        if size == 0:
            return "EMPTY_FILE", ""
        with open(path, "rb") as file:
            head = file.read(1024)
            if head[128:132] != b"DICM":
                return "NOT_DICOM", ""
            if size > tags.MAX_FILE_BYTES or (tags.DEFLATED.encode() in head and _inflates_too_far(path)):
                return "TOO_LARGE", ""
            file.seek(0)
            header = dcmread(file, stop_before_pixels=True, defer_size=tags.MAX_ELEMENT_BYTES)
            return _judge(path, header, file, size), _Raw(header).text("SeriesInstanceUID")
    except Exception:  # a damaged header may raise anything; the file is named, its neighbours go on
        return "UNREADABLE", ""


def read_full_header(one: SliceFile) -> Dataset:
    """Return the whole header of a slice's file, up to its pixels; what a multi-frame file says of this frame stands at the top.

    It holds identifiers: it goes through `deidentify` before anything is taken from it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if one.frame >= 0:
            return flattened(_multi_frame_header(one.path), one.frame)
        with open(one.path, "rb") as file:
            return dcmread(file, stop_before_pixels=True, defer_size=tags.MAX_ELEMENT_BYTES)


def read_headers(paths: Iterable[str]) -> list[SliceFile | Dismissed]:
    """Read many headers; what DICOM files do against the standard is judged here, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [one for path in paths for one in read_slices(path)]


def _inflates_too_far(path: str) -> bool:
    data = Path(path).read_bytes()
    start = 132
    # group 0002 is never deflated; its length stands in its first element (PS3.10 section 7.1)
    start += 12 + int.from_bytes(data[140:144], "little")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    inflate.decompress(data[start:], tags.MAX_INFLATED_BYTES)
    return bool(inflate.unconsumed_tail)


def _judge(path: str, header: Dataset, file: BinaryIO, size: int) -> list[SliceFile] | str:
    one = _Raw(header)
    syntax, sop_class = str(header.file_meta.get("TransferSyntaxUID", "")), one.text("SOPClassUID")
    if sop_class == "1.2.840.10008.1.3.10" or "DirectoryRecordSequence" in header:
        return "DICOMDIR"
    if not sop_class:  # every DICOM object says what it is: this one lost it
        return "UNREADABLE"
    enhanced = sop_class in tags.ENHANCED_CT
    if (sop_class != tags.CT_IMAGE_STORAGE and not enhanced) or one.text("Modality").upper() not in ("CT", ""):
        return "NOT_CT"
    for value in one.texts("ImageType"):
        if value.upper() in tags.IMAGE_TYPES_TURNED_AWAY:
            return tags.IMAGE_TYPES_TURNED_AWAY[value.upper()]
    if one.text("BurnedInAnnotation").upper() == "YES":
        return "BURNED_IN"
    count = int(one.text("NumberOfFrames") or 1)
    if count < 1 or (count > 1 and not enhanced):
        return "MULTI_FRAME"
    if syntax in tags.RETIRED_SYNTAXES:
        return "RETIRED_SYNTAX"
    if syntax not in tags.TRANSFER_SYNTAXES:
        return "TRANSFER_SYNTAX"
    rows, columns = one.number("Rows", 0), one.number("Columns", 0)
    if rows == 0 or columns == 0:
        return "NO_PIXELS"
    if rows > tags.MAX_SIDE or columns > tags.MAX_SIDE:
        return "TOO_LARGE"
    allocated, signed = one.number("BitsAllocated", 16), bool(one.number("PixelRepresentation", 0))
    stored = one.number("BitsStored", allocated)
    high = one.number("HighBit", stored - 1)
    grey = one.text("PhotometricInterpretation") in ("MONOCHROME2", "") and one.number("SamplesPerPixel", 1) == 1
    if not grey or allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated:
        return "PIXEL_FORMAT"
    offset = -1
    if tags.TRANSFER_SYNTAXES[syntax] == "raw":
        offset = _pixels_start(file, explicit=syntax == tags.EXPLICIT_LITTLE)
        if offset < 0:
            return "NO_PIXELS"
        if offset + count * rows * columns * allocated // 8 > size:
            return "TRUNCATED"
    if count * rows * columns > tags.MAX_VOXELS:
        return "TOO_LARGE"
    position, orientation = one.floats("ImagePositionPatient", 3), one.floats("ImageOrientationPatient", 6)
    spacing = one.floats("PixelSpacing", 2)
    if not enhanced and (not position or not orientation or not spacing or not all(0.01 < s < 20 for s in spacing) or not is_frame(orientation)):
        return "NO_GEOMETRY"
    patient = str(header.get("PatientID", "") or "").strip()  # decoded with the file's own character set
    if not canonical_id(patient):
        return "NO_PATIENT_ID"
    slope, intercept = one.floats("RescaleSlope", 1), one.floats("RescaleIntercept", 1)
    dates = (one.text(keyword) for keyword in ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate"))
    found = SliceFile(
        path=path,
        patient_id=patient,
        study_uid=one.text("StudyInstanceUID"),
        series_uid=one.text("SeriesInstanceUID"),
        image_uid=one.text("SOPInstanceUID"),
        study_date=next((d for d in dates if len(d) == 8 and d.isdigit()), ""),
        acquisition=one.text("AcquisitionNumber"),
        position_mm=(position[0], position[1], position[2]) if position else (0.0, 0.0, 0.0),
        orientation=orientation,
        spacing_mm=(spacing[0], spacing[1]) if spacing else (1.0, 1.0),
        rows=rows,
        columns=columns,
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        rescale_given=bool(slope and intercept) and one.text("RescaleType").upper() in ("HU", ""),
        padding=_padding(one, allocated, signed),
        bits=(allocated, stored, high),
        signed=signed,
        lossy=tags.TRANSFER_SYNTAXES[syntax] == "lossy" or one.text("LossyImageCompression") == "01",
        pixel_offset=offset,
    )
    return frames_of(_multi_frame_header(path), found, rows * columns * allocated // 8) if enhanced else [found]


def _multi_frame_header(path: str) -> Dataset:
    # a thousand frames need more than a megabyte of functional groups: nothing may be put off for later here
    with open(path, "rb") as file:
        return dcmread(file, stop_before_pixels=True, defer_size=tags.MAX_INFLATED_BYTES)


class _Raw:
    """Values straight from the bytes of a header: a tenth of the time of full conversion, which 300 slices would pay 300 times."""

    def __init__(self, header: Dataset) -> None:
        self.header = header
        self.little = header.original_encoding[1] is not False

    def value(self, keyword: str) -> bytes:
        element = self.header.get_item(TAGS[keyword])
        if element is None or element.value is None:
            return b""
        return element.value if isinstance(element.value, bytes) else str(element.value).encode("latin-1", "replace")

    def texts(self, keyword: str) -> list[str]:
        return [part.strip(" \0") for part in self.value(keyword).decode("latin-1").split("\\")]

    def text(self, keyword: str) -> str:
        return self.value(keyword).decode("latin-1").strip(" \0")

    def floats(self, keyword: str, count: int) -> tuple[float, ...]:
        parts = self.value(keyword).split(b"\\")
        try:
            numbers = tuple(float(part.strip(b" \0")) for part in parts)
        except ValueError:
            return ()
        return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else ()

    def number(self, keyword: str, default: int) -> int:
        data = self.value(keyword)
        if len(data) < 2:
            return default
        return int.from_bytes(data[:2], "little" if self.little else "big")


TAGS = {
    keyword: BaseTag(tag)
    for keyword in """
        SOPClassUID Modality ImageType BurnedInAnnotation NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
        PhotometricInterpretation SamplesPerPixel ImagePositionPatient ImageOrientationPatient PixelSpacing RescaleSlope RescaleIntercept
        RescaleType StudyDate AcquisitionDate SeriesDate ContentDate StudyInstanceUID SeriesInstanceUID SOPInstanceUID AcquisitionNumber
        PixelPaddingValue PixelPaddingRangeLimit LossyImageCompression
    """.split()  # noqa: SIM905
    if (tag := tag_for_keyword(keyword)) is not None
}
"""Tags of the keywords that a header is judged by."""


def _padding(one: _Raw, allocated: int, signed: bool) -> tuple[int, int] | None:
    if not one.value("PixelPaddingValue"):
        return None
    value = one.number("PixelPaddingValue", 0)
    ends = [value, one.number("PixelPaddingRangeLimit", value)]
    if signed:  # written as US by many, though the pixels are signed (PS3.3 C.7.5.1.1.2): two's complement reads both
        ends = [v - (1 << 16) if v >= 1 << 15 else v for v in ends]
    return (min(ends), max(ends)) if allocated > 8 or max(ends) < 256 else None


def _pixels_start(file: BinaryIO, *, explicit: bool) -> int:
    head = file.read(12)
    if head[:4] != b"\xe0\x7f\x10\x00":
        return -1
    return file.tell() - (0 if explicit else 4)
