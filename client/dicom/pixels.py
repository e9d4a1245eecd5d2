"""Pixels of one slice as Hounsfield units: decode, mask, rescale, padding to air."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from client.dicom.codestream import image_size
from client.dicom.slices import SliceFile
from shared_models.core.errors import BadStudy

AIR_HU = -1024.0
OUTSIDE_HU = -1100.0
"""Below this no tissue and no noise lies; scanners mark what is outside the field of view by -2000, -3024 and the like."""


def read_raw(one: SliceFile) -> NDArray[np.integer]:
    """Return the stored pixel values of a slice, shape (rows, columns).

    Uncompressed pixels come straight from their place in the file; everything else goes through pydicom's decoders.

    Raises
    ------
    BadStudy
        ``TRUNCATED`` or ``UNDECODABLE``.
    """
    allocated, stored, high = one.bits
    if one.pixel_offset >= 0:
        kind = np.dtype(f"<{'i' if one.signed else 'u'}{allocated // 8}")
        with open(one.path, "rb") as file:
            file.seek(one.pixel_offset)
            data = file.read(one.rows * one.columns * kind.itemsize)
        if len(data) < one.rows * one.columns * kind.itemsize:
            raise BadStudy("TRUNCATED", "the pixel data must be whole")
        raw = np.frombuffer(data, kind).reshape(one.rows, one.columns)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                raw = _decoded(one)
        except BadStudy:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise BadStudy("UNDECODABLE", "the compressed pixels must be decodable", value=type(error).__name__) from None
        if raw.shape != (one.rows, one.columns) or raw.dtype.kind not in "iu":
            raise BadStudy("UNDECODABLE", "the decoded image must have the size in its header", value=raw.shape)
        return raw
    if stored < allocated:
        raw = _low_bits(raw, allocated, stored, high, one.padding)
    return raw


def _decoded(one: SliceFile) -> NDArray[np.integer]:
    if one.frame < 0:
        return _frame(dcmread(one.path), one)
    status = Path(one.path).stat()
    return _frame(_file(one.path, status.st_size, status.st_mtime_ns), one)


@functools.lru_cache(maxsize=1)
def _file(path: str, _size: int, _changed: int) -> Dataset:
    # a multi-frame file is read once for all its frames, which come one after the other
    return dcmread(path)


def _frame(ds: Dataset, one: SliceFile) -> NDArray[np.integer]:
    index = max(one.frame, 0)
    if ds.file_meta.TransferSyntaxUID.is_encapsulated:
        stream = get_frame(ds.PixelData, index, number_of_frames=int(ds.get("NumberOfFrames", 1) or 1))
        size = image_size(stream)
        if size is not None and size != (one.rows, one.columns):  # before a decoder makes room for whatever the stream says
            raise BadStudy("UNDECODABLE", "the compressed image must have the size in its header", value=size)
    return pixel_array(ds, index=index)


def _low_bits(raw: NDArray[np.integer], allocated: int, stored: int, high: int, padding: tuple[int, int] | None) -> NDArray[np.integer]:
    # Old files keep overlays in the bits above the stored ones. Padding may use them too and is told apart by its exact value.
    low, most = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if raw.dtype.kind == "i" else (0, (1 << stored) - 1)
    if high == stored - 1 and int(raw.min()) >= low and int(raw.max()) <= most:
        return raw
    cut = (raw << (allocated - 1 - high)) >> (allocated - stored)
    if padding is None:
        return cut
    return np.where((raw >= padding[0]) & (raw <= padding[1]), raw, cut)


def read_hu(one: SliceFile, out: NDArray[np.float32]) -> None:
    """Write the slice's Hounsfield units into `out`, shape (rows, columns): slope * raw + intercept, outside the field of view -1024.

    Raises
    ------
    BadStudy
        ``TRUNCATED`` or ``UNDECODABLE``.
    """
    raw = read_raw(one)
    if one.slope == 1.0 and one.intercept == 0.0:
        out[:] = raw
    else:
        np.multiply(raw, np.float32(one.slope), out=out)
        out += np.float32(one.intercept)
    if one.padding is not None:
        low, high = one.padding
        # a padding value that is also a plausible HU (0, or -1000 for air) may be tissue: only what lies below -900 HU is outside
        outside = (raw >= low) & (raw <= high) & (out < -900.0)
        out[outside] = AIR_HU
    if out.min() < OUTSIDE_HU:
        out[out < OUTSIDE_HU] = AIR_HU
