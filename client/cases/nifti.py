"""Label maps as NIfTI-1 files (``.nii``, ``.nii.gz``): what drawing programs write. Read without any code that a file could bring along.

Only what a label map needs: one volume of whole numbers with an sform or qform. Format: Cox et al., NIfTI-1 Data Format, 2004 (nifti1.h).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.cases.volume import Volume
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic

HEADER_BYTES, DATA_AT = 348, 352
MAX_VOXELS = 512 * 512 * 2048
TYPES = {2: "u1", 4: "i2", 8: "i4", 256: "i1", 512: "u2", 768: "u4"}
"""Codes of the types that a label map may have."""
TO_LPS = np.diag([-1.0, -1.0, 1.0])
"""NIfTI points right, front and up (RAS+), DICOM left, back and up."""


@dataclass(frozen=True)
class LabelMap:
    """Whole numbers on a grid of their own.

    Parameters
    ----------
    labels : ndarray of int, shape (a, b, c)
        Along the file's own axes.
    steps_mm : ndarray, shape (3, 3)
        Rows are the steps, in LPS millimetres, of one voxel along each axis.
    origin_mm : ndarray, shape (3,)
        Centre of voxel (0, 0, 0), LPS.
    """

    labels: np.ndarray
    steps_mm: np.ndarray
    origin_mm: np.ndarray


def read_label_map(path: Path) -> LabelMap:
    """Read a label map.

    Raises
    ------
    BadInput
        Not a NIfTI-1 file of one volume of whole numbers, one without a place in space, or one that is too large.
    """
    path = Path(path)
    data = _bytes(path)
    if len(data) < HEADER_BYTES or data[344:348] != b"n+1\0":
        raise BadInput("a label map must be a NIfTI-1 file (.nii or .nii.gz)", value=data[344:348])
    order = "<" if struct.unpack("<i", data[:4])[0] == HEADER_BYTES else ">"
    dims, (kind,) = struct.unpack(f"{order}8h", data[40:56]), struct.unpack(f"{order}h", data[70:72])
    if not 3 <= dims[0] <= 7 or min(dims[1:4]) < 1 or any(n > 1 for n in dims[4 : dims[0] + 1]):
        raise BadInput("a label map must be one volume", value=dims[1 : dims[0] + 1])
    if kind not in TYPES:
        raise BadInput("a label map must hold whole numbers", value=kind, remedy="save it with an integer type")
    slope, inter = struct.unpack(f"{order}2f", data[112:120])
    if slope not in (0.0, 1.0) or inter != 0.0:
        raise BadInput("the numbers of a label map must stand for themselves", value=(slope, inter), remedy="save it without scaling")
    shape, start = (int(dims[1]), int(dims[2]), int(dims[3])), int(struct.unpack(f"{order}f", data[108:112])[0])
    kept = np.dtype(order + TYPES[kind])
    count = shape[0] * shape[1] * shape[2]
    if not DATA_AT <= start <= len(data) or len(data) - start < count * kept.itemsize:
        raise BadInput("a label map must hold every voxel of its header", value=len(data))
    labels = np.frombuffer(data, kept, count, start).reshape(shape, order="F")
    steps, origin = _place(data, order)
    return LabelMap(labels, steps @ TO_LPS, TO_LPS @ origin)


def _bytes(path: Path) -> bytes:
    most = DATA_AT + 4 * MAX_VOXELS
    try:
        if path.suffix != ".gz":
            if path.stat().st_size > most:
                raise BadInput("a label map must not be larger than a series", value=path.stat().st_size)
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput("a label map must be readable", value=type(error).__name__) from None
    if len(data) > most:
        raise BadInput("a label map must not be larger than a series", value=len(data))
    return data


def _place(data: bytes, order: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps (rows) and the origin in RAS: of the sform where there is one, else of the qform."""
    qform, sform = struct.unpack(f"{order}2h", data[252:256])
    if sform > 0:
        rows = np.array(struct.unpack(f"{order}12f", data[280:328]), np.float64).reshape(3, 4)
        steps, origin = rows[:, :3].T, rows[:, 3]
    elif qform > 0:
        sizes = struct.unpack(f"{order}4f", data[76:92])
        b, c, d, *origin = struct.unpack(f"{order}6f", data[256:280])
        a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        steps, origin = turn.T * (np.array(sizes[1:]) * [1, 1, -1.0 if sizes[0] < 0 else 1.0])[:, None], np.array(origin)
    else:
        raise BadInput("a label map must say where it lies (sform or qform)", remedy="save it with the geometry of the series")
    if not np.isfinite(steps).all() or not np.isfinite(origin).all():
        raise BadInput("a label map must say where it lies in finite numbers")
    return steps, np.asarray(origin, np.float64)


def onto(found: LabelMap, volume: Volume) -> np.ndarray:
    """Return a label map on the grid of the series that it was drawn on, shape (z, y, x): axes turned, nothing interpolated.

    Raises
    ------
    BadInput
        The map has another number of voxels, another voxel size or another place than the series.
    """
    axes = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float) if volume.direction is None else volume.direction
    spacing = np.array(volume.spacing_mm)
    along = found.steps_mm @ axes.T / spacing  # of each axis of the map, how many voxels of the series along z, y and x
    turns = np.abs(along).argmax(1)
    if sorted(turns.tolist()) != [0, 1, 2]:
        raise BadInput("the axes of a label map must be those of its series")
    shape = tuple(int(found.labels.shape[int(np.flatnonzero(turns == axis)[0])]) for axis in range(3))
    if shape != volume.hu.shape:
        raise BadInput("a label map must have the voxels of its series", value=shape, remedy=f"draw on all {volume.hu.shape} (z, y, x)")
    expected = np.zeros((3, 3))
    expected[np.arange(3), turns] = np.sign(along[np.arange(3), turns])
    if (np.abs(along - expected) * np.array(found.labels.shape)[:, None]).max() > 0.5:  # half a voxel at the far end
        raise BadInput("a label map must have the voxel size and directions of its series", value=np.round(np.linalg.norm(found.steps_mm, axis=1), 3))
    order = [int(np.flatnonzero(turns == axis)[0]) for axis in range(3)]
    labels, signs = found.labels.transpose(order), expected[order, range(3)]
    far = found.steps_mm * (np.array(found.labels.shape) - 1)[:, None]
    first = found.origin_mm + sum((far[order[axis]] for axis in range(3) if signs[axis] < 0), np.zeros(3))
    if np.abs((first - np.array(volume.origin_mm)) @ axes.T / spacing).max() > 0.5:
        raise BadInput("a label map must lie where its series lies", value=np.round(first, 2).tolist())
    return np.ascontiguousarray(labels[tuple(slice(None, None, int(sign)) for sign in signs)])


def write_label_map(path: Path, labels: Mask, spacing_mm: tuple[float, float, float], origin_mm: np.ndarray, direction: np.ndarray) -> None:
    """Write a label map (z, y, x) of a grid as ``.nii.gz``; geometry as in `Volume`, and the same map gives the same bytes."""
    steps = direction * np.array(spacing_mm)[:, None] @ TO_LPS  # rows z, y, x in RAS
    header = bytearray(DATA_AT)
    struct.pack_into("<i", header, 0, HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *labels.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<4f", header, 76, 1.0, *spacing_mm[::-1])
    struct.pack_into("<3f", header, 108, DATA_AT, 1.0, 0.0)
    struct.pack_into("<B", header, 123, 2)
    struct.pack_into("<2h", header, 252, 0, 1)
    place = np.column_stack([steps[::-1].T, TO_LPS @ np.asarray(origin_mm)])
    struct.pack_into("<12f", header, 280, *place.reshape(-1))
    header[344:348] = b"n+1\0"
    body = np.ascontiguousarray(labels, np.uint8).tobytes()  # x runs fastest, as in Fortran order of (x, y, z)
    write_atomic(path, gzip.compress(bytes(header) + body, compresslevel=6, mtime=0), durable=False)
