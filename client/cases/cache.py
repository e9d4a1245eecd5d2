"""The cache of prepared studies: one safetensors file each, with its checksum inside, so that a damaged file is made again and never used."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from shared_models.core.errors import BadInput
from shared_models.core.files import canonical_json, pack_state, sha256, unpack_state, write_atomic

CODE_FOLDERS = ("cases", "dicom", "preprocessing", "segmentation", "features", "hrct")
CODE_FILES = ("prepare.py", "pattern_maps.py", "training/windows.py", "training/maps.py", "training/targets.py")
"""Folders and files of `client` whose code decides what a prepared study and its features look like."""

ANNOTATION = "annotation"
MAX_HEADER_BYTES = 64 << 20


class DamagedCache(BadInput):
    """A cached file whose content does not match its checksum; prepare the study again."""

    code = "E_CACHE"


@dataclass(frozen=True)
class Stored:
    """A prepared study as cached: image and mask on the prepared grid, and its description.

    `note` holds only what may be cached: ``features``, ``findings``, ``acquisition`` and the like, never an identifier.
    """

    prepared: Prepared
    note: dict[str, Any]


@cache
def code_version() -> str:
    """Return a digest of the code that prepares studies: other code, other cache."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in [*(root / name for name in CODE_FILES), *(path for folder in CODE_FOLDERS for path in sorted((root / folder).rglob("*.py")))]:
        digest.update(f"{path.relative_to(root).as_posix()}|".encode() + path.read_bytes())
    return digest.hexdigest()


def volume_digest(volume: Volume) -> str:
    """Return a SHA-256 of a volume's voxels and geometry: the same study under other file names gives the same digest."""
    digest = hashlib.sha256(canonical_json([volume.hu.shape, volume.spacing_mm, volume.origin_mm]).encode())
    if volume.direction is not None:
        digest.update(np.ascontiguousarray(volume.direction, np.float64).tobytes())
    digest.update(np.ascontiguousarray(volume.hu).data)
    return digest.hexdigest()


def cache_key(content: str, preparation: str) -> str:
    """Return the file name's stem for a study of digest `content` prepared with settings of digest `preparation` by this code."""
    return sha256(canonical_json([content, preparation, code_version()]).encode())[:40]


def store(path: Path, prepared: Prepared, note: dict[str, Any]) -> None:
    """Write a prepared study: ``hu`` int16, ``mask`` and perhaps ``annotation`` uint8, shape (z, y, x), geometry and `note` as JSON in the header.

    Intensities are rounded to whole numbers and kept within int16.
    """
    volume = prepared.volume
    hu = np.clip(np.rint(volume.hu), -32768, 32767).astype(np.int16)
    mask = np.zeros(hu.shape, np.uint8) if prepared.mask is None else prepared.mask
    meta = canonical_json(
        {
            "spacing_mm": volume.spacing_mm,
            "origin_mm": volume.origin_mm,
            "direction": None if volume.direction is None else volume.direction.tolist(),
            "is_hu": prepared.is_hu,
            "note": note,
        }
    )
    arrays = {"hu": hu, "mask": mask} | ({} if prepared.annotation is None else {ANNOTATION: prepared.annotation})
    data = pack_state(arrays, {"meta": meta, "sha256": _checksum(meta, *arrays.values())})
    write_atomic(path, data, mode=0o600, durable=False)


def load(path: Path) -> Stored:
    """Read a prepared study and verify its checksum.

    Raises
    ------
    DamagedCache
        The file is missing, or one of its bits has changed.
    """
    try:
        data = Path(path).read_bytes()
        arrays = unpack_state(data)
        (length,) = struct.unpack("<Q", data[:8])
        written = json.loads(data[8 : 8 + length])["__metadata__"]
        hu, mask, drawn = arrays["hu"], arrays["mask"], arrays.get(ANNOTATION)
        if written["sha256"] != _checksum(written["meta"], hu, mask, *(() if drawn is None else (drawn,))):
            raise ValueError("checksum")
        meta = json.loads(written["meta"])
        direction = None if meta["direction"] is None else np.array(meta["direction"])
        z, y, x = meta["spacing_mm"]
        place = tuple(meta["origin_mm"])
        volume = Volume(hu.astype(np.float32), (z, y, x), (place[0], place[1], place[2]), direction)
    except (OSError, ValueError, KeyError, TypeError, struct.error, BadInput) as error:
        raise DamagedCache("a cached study must match its checksum", value=type(error).__name__, remedy="prepare again") from None
    return Stored(Prepared(volume, mask, meta["is_hu"], drawn), meta["note"])


def is_annotated(path: Path) -> bool:
    """Say from its header alone whether a cached study holds an annotation; False of a damaged file, which `load` names.

    Nothing is learnt of a study here: `load` verifies whatever is used.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            return length <= MAX_HEADER_BYTES and ANNOTATION in json.loads(file.read(length))
    except (OSError, ValueError, struct.error, TypeError):
        return False


def _checksum(meta: str, hu: np.ndarray, *labels: np.ndarray) -> str:
    words = [meta, hu.dtype.str, str(hu.shape), *(str(one.shape) for one in labels), ""]
    digest = hashlib.sha256("|".join(words).encode())
    for array in (hu, *labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
