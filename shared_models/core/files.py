"""Files that are whole or absent: atomic writes, canonical JSON, digests, safetensors without surprises."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState

Parts = Sequence[bytes | memoryview]
"""The bytes of a file in pieces, so that large arrays need not be copied into one."""

_CODES = {
    np.dtype(name).newbyteorder("<"): code
    for name, code in {
        **{f"f{size}": f"F{8 * size}" for size in (2, 4, 8)},
        **{f"i{size}": f"I{8 * size}" for size in (1, 2, 4, 8)},
        **{f"u{size}": f"U{8 * size}" for size in (1, 2, 4, 8)},
        "bool": "BOOL",
    }.items()
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
MOST_HEADER_BYTES = 100_000_000
"""As in the library that reads these files."""


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal bytes, so it may be hashed.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [1, 2]})
    '{"a":[1,2],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, data: bytes | Parts, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write `data` so that a reader, or a crash, sees the old file or the new one, never a torn one.

    The bytes go to a temporary file in the same folder, are flushed to disk, and take the name in one rename.

    Parameters
    ----------
    path : Path
        Target; its folder is made when missing.
    data : bytes or sequence of bytes
        Whole content.
    mode : int
        Permission bits.
    durable : bool
        Flush to the disk before the rename (False where a lost file is simply made again).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: Any, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write `value` as readable JSON, atomically. NaN is refused: write None for *undefined*."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), mode=mode, durable=durable)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def state_parts(state: State, note: Mapping[str, str] | None = None) -> Parts:
    """Return the parts of a safetensors file: header, then every array's own memory, uncopied. Equal states and notes give equal bytes.

    Written here because the library copies every array twice and writes the note in a random order; it reads the result.

    Raises
    ------
    BadState
        An array that is not of plain numbers.
    """
    arrays = {key: np.asarray(value, order="C") for key, value in state.items()}
    arrays = {key: value.astype(value.dtype.newbyteorder("<"), copy=False) for key, value in arrays.items()}
    header: dict[str, Any] = {"__metadata__": dict(sorted(note.items()))} if note else {}
    names = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))  # wide types first, so that every array is aligned
    end = 0
    for key in names:
        value = arrays[key]
        if value.dtype not in _CODES:
            raise BadState(f"{key!r} must hold plain numbers", value=str(value.dtype))
        header[key] = {"dtype": _CODES[value.dtype], "shape": list(value.shape), "data_offsets": [end, end + value.nbytes]}
        end += value.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *(arrays[key].reshape(-1).view(np.uint8).data for key in names)]


def pack_state(state: State, note: Mapping[str, str] | None = None) -> bytes:
    """Return `state` as safetensors bytes; equal states and notes give equal bytes."""
    return b"".join(state_parts(state, note))


def unpack_state(data: bytes) -> State:
    """Read safetensors bytes; the arrays have memory of their own and may be written to.

    Raises
    ------
    BadState
        The bytes are not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadState("a state file must be safetensors", value=type(error).__name__, remedy="restore it from its checkpoint") from None
    # The library gives them in a random order; sums over keys (norms) must not depend on it.
    return {key: arrays[key] for key in sorted(arrays)}


def view_state(data: bytes | memoryview) -> State:
    """Read safetensors bytes without copying: the arrays are read-only views of `data`, in the order of their keys.

    Written here because the library copies every array. Nothing is believed: the arrays must cover the bytes exactly, one after another.

    Raises
    ------
    BadState
        The bytes are not safetensors of plain numbers.

    Examples
    --------
    >>> view_state(pack_state({"w": np.array([1.0, 2.0])}))["w"].tolist()
    [1.0, 2.0]
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 < start <= min(len(data), MOST_HEADER_BYTES):
            raise ValueError("header")
        header = json.loads(bytes(data[8:start]))
        header.pop("__metadata__", None)
        state, end = {}, 0
        for key, about in sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
            dtype, shape, (begin, stop) = _DTYPES[about["dtype"]], tuple(about["shape"]), about["data_offsets"]
            if any(type(number) is not int or number < 0 for number in (*shape, begin, stop)) or begin != end:
                raise ValueError("place")
            count, end = math.prod(shape), stop
            if stop - begin != count * dtype.itemsize or start + stop > len(data):
                raise ValueError("size")
            state[key] = np.frombuffer(data, dtype, count, start + begin if count else 0).reshape(shape)
        if start + end != len(data):
            raise ValueError("end")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise BadState("arrays must be safetensors of plain numbers", value=type(error).__name__) from None
    return {key: state[key] for key in sorted(state)}


def write_state(path: Path, state: State, note: Mapping[str, str] | None = None, *, mode: int = 0o644, durable: bool = True) -> str:
    """Write `state` as safetensors, atomically, and return the SHA-256 of the file."""
    parts = state_parts(state, note)
    write_atomic(path, parts, mode=mode, durable=durable)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def read_state(path: Path) -> State:
    """Read a safetensors file."""
    return unpack_state(Path(path).read_bytes())
