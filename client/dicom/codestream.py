"""The image size that a compressed stream itself announces, read before a decoder is let loose on it.

A few hundred bytes of JPEG 2000 can announce an image of gigabytes, and a decoder makes room for what it is told.
"""

from __future__ import annotations

import struct

JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7))
"""Markers of a frame header: SOF0 to SOF15 without DHT, JPG, DAC (ISO/IEC 10918-1 table B.1), and SOF55 of JPEG-LS (ISO/IEC 14495-1)."""
LONGEST = 1 << 16
"""Bytes searched for the frame header of a JPEG stream."""


def image_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG, JPEG-LS or JPEG 2000 stream; None where it announces none (RLE, or no such stream).

    JPEG 2000: Xsiz, Ysiz less the image offset in the SIZ marker (ISO/IEC 15444-1 A.5.1), also inside a JP2 file.

    Examples
    --------
    >>> image_size(bytes.fromhex("ffd8ffc0000b0c0010002001011100"))
    (16, 32)
    >>> image_size(b"") is None
    True
    """
    if stream[:2] == b"\xff\xd8":
        return _jpeg(stream[:LONGEST])
    start = 0 if stream[:4] == b"\xff\x4f\xff\x51" else stream[:LONGEST].find(b"\xff\x4f\xff\x51")
    if start < 0 or len(stream) < start + 24:
        return None
    width, height, left, top = struct.unpack(">IIII", stream[start + 8 : start + 24])
    return height - top, width - left


def _jpeg(stream: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(stream):
        if stream[place] != 0xFF:
            return None
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker in JPEG_FRAMES:
            rows, columns = struct.unpack(">HH", stream[place + 5 : place + 9])
            return rows, columns
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            place += 2
            continue
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
