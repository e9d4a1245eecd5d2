"""A study as one small picture: the axial slice with most lung and the coronal plane through it, in the lung window, lungs outlined."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from client.cases.prepared import Prepared

LUNG_WINDOW_HU = (-1350.0, 150.0)
"""Level -600, width 1500: the usual lung window."""
SIDE = 144
"""Height in pixels."""
OUTLINE = (53, 208, 186)


def thumbnail(prepared: Prepared) -> bytes:
    r"""Return a PNG of two planes side by side; the patient's right is on the left, the head on top.

    The pixels hold nothing but the image: no text, no metadata.

    Examples
    --------
    >>> from client.cases.volume import Volume
    >>> thumbnail(Prepared(Volume(np.zeros((4, 8, 8), np.float32), (2, 1, 1))))[:4]
    b'\x89PNG'
    """
    volume, mask = prepared.volume, prepared.mask
    inside = np.zeros(volume.hu.shape, bool) if mask is None else mask > 0
    z, y = int(inside.sum((1, 2)).argmax()), int(inside.sum((0, 2)).argmax())
    if not inside.any():
        z, y = volume.hu.shape[0] // 2, volume.hu.shape[1] // 2
    z_mm, y_mm, x_mm = volume.spacing_mm
    axial = _plane(volume.hu[z], inside[z], y_mm, x_mm)
    coronal = _plane(volume.hu[::-1, y], inside[::-1, y], z_mm, x_mm)
    return png(np.concatenate([axial, np.zeros((SIDE, 4, 3), np.uint8), coronal], axis=1))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit RGB image, shape (rows, columns, 3), as PNG (ISO/IEC 15948) without any metadata.

    Examples
    --------
    >>> png(np.zeros((2, 3, 3), np.uint8))[16:24].hex()
    '0000000300000002'
    """
    rows, columns, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")))


def _plane(hu: np.ndarray, inside: np.ndarray, row_mm: float, column_mm: float) -> NDArray[np.uint8]:
    columns = int(np.clip(round(SIDE * hu.shape[1] * column_mm / (hu.shape[0] * row_mm)), SIDE // 4, 3 * SIDE))
    rows_at = (np.arange(SIDE) + 0.5) * hu.shape[0] / SIDE - 0.5
    columns_at = (np.arange(columns) + 0.5) * hu.shape[1] / columns - 0.5
    smooth = np.asarray(hu, np.float32)
    for axis, places in enumerate((SIDE, columns)):
        smooth = np.asarray(ndimage.uniform_filter1d(smooth, max(1, round(hu.shape[axis] / places)), axis=axis))
    image = ndimage.map_coordinates(smooth, np.meshgrid(rows_at, columns_at, indexing="ij"), order=1, mode="nearest")
    low, high = LUNG_WINDOW_HU
    grey = np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    nearest = np.ix_(np.rint(rows_at).astype(int).clip(0), np.rint(columns_at).astype(int).clip(0))
    lung = inside[nearest]
    out = np.repeat(grey[:, :, None], 3, axis=2)
    out[lung & ~np.asarray(ndimage.binary_erosion(lung, border_value=1), bool)] = OUTLINE
    return out


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
