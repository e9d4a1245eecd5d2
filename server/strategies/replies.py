"""The spool of a round's replies: on disk as they arrive, read back in roster order, so that any arrival order gives the same bits.

Every valid update is written to a file at once. When the round closes, the sums run over blocks that fit the processor's cache: for each
block, each site's values are read from its file in the order of the sites' names and added in float64. Memory is therefore one new model
and a few blocks, however many sites there are, and the time is that of reading every byte once.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import read_state, state_parts, write_atomic

BLOCK = 1 << 16
_TYPES = {
    "F32": np.float32,
    "F64": np.float64,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "I8": np.int8,
    "I16": np.int16,
}


@dataclass(frozen=True)
class Reply:
    """One site's valid update, spooled."""

    site: str
    path: Path
    num_cases: int
    steps: int


class Spool:
    """The replies of one round in a folder.

    Parameters
    ----------
    folder : Path
        Made when missing; `clear` removes it.
    durable : bool
        Flush each reply to disk: a deployed server recovers replies after a crash, a simulation repeats the round instead.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder, self.durable = Path(folder), durable
        self._replies: dict[str, Reply] = {}

    def add(self, site: str, state: State, *, num_cases: int, steps: int) -> None:
        """Store one update; a second one of the same site is refused."""
        if site in self._replies:
            raise BadState("a site replies once a round", value=site)
        path = self.folder / f"{site}.safetensors"
        write_atomic(path, state_parts(state, {"num_cases": str(num_cases), "steps": str(steps)}), durable=self.durable)
        self._replies[site] = Reply(site, path, num_cases, steps)

    def take_up(self, site: str, path: Path, *, num_cases: int, steps: int) -> None:
        """Count a file of this folder that an earlier process spooled and whose content was verified (`server/runs/journal`)."""
        self._replies[site] = Reply(site, path, num_cases, steps)

    @property
    def replies(self) -> list[Reply]:
        """Replies in the order of the sites' names, whatever order they came in."""
        return [self._replies[site] for site in sorted(self._replies)]

    def states(self) -> Iterator[State]:
        """Read the updates one after another, in order."""
        for reply in self.replies:
            yield read_state(reply.path)

    def columns(self, like: State) -> Iterator[tuple[str, slice, np.ndarray]]:
        """Walk over all parameters in blocks: ``(key, flat slice, values of shape (sites, block))`` in float64.

        Robust strategies (median, trimmed mean) need all sites' values of a parameter at once; this gives them at the memory of a block.
        """
        files = [_Tensors(reply.path) for reply in self.replies]
        try:
            for key in sorted(like):
                size = like[key].size
                for start in range(0, size, BLOCK):
                    part = slice(start, min(start + BLOCK, size))
                    yield key, part, np.stack([file.read(key, part).astype(np.float64) for file in files])
        finally:
            for file in files:
                file.close()

    def weighted_mean(self, like: State, weights: list[float]) -> State:
        """Return ``sum_i w_i x_i / sum_i w_i`` with the keys, shapes and types of `like`.

        Integer keys (counters) are rounded to the nearest integer.

        Raises
        ------
        BadState
            No replies, or weights that do not sum to a positive number.
        """
        replies = self.replies
        total = float(sum(weights))
        if not replies or len(weights) != len(replies) or not total > 0:
            raise BadState("a mean needs replies and a positive total weight", value=(len(replies), total))
        shares = [w / total for w in weights]
        result = {key: np.empty(value.shape, value.dtype) for key, value in like.items()}
        files = [_Tensors(reply.path) for reply in replies]
        block = np.empty(BLOCK)
        scaled = np.empty(BLOCK)
        try:
            for key in sorted(like):
                flat = result[key].reshape(-1)
                for start in range(0, flat.size, BLOCK):
                    part = slice(start, min(start + BLOCK, flat.size))
                    n = part.stop - part.start
                    np.multiply(files[0].read(key, part), shares[0], out=block[:n], casting="unsafe")
                    for file, share in zip(files[1:], shares[1:], strict=True):
                        np.multiply(file.read(key, part), share, out=scaled[:n], casting="unsafe")
                        np.add(block[:n], scaled[:n], out=block[:n])
                    flat[part] = np.rint(block[:n]) if flat.dtype.kind in "iub" else block[:n]
        finally:
            for file in files:
                file.close()
        return result

    def clear(self) -> None:
        """Forget the replies and remove their files."""
        self._replies.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Tensors:
    """A safetensors file read by blocks with plain reads: mapped pages would count as memory."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        (length,) = struct.unpack("<Q", self._file.read(8))
        self._head = json.loads(self._file.read(length))
        self._body = 8 + length
        self._buffer = np.empty(BLOCK * 8, np.uint8)

    def read(self, key: str, part: slice) -> np.ndarray:
        entry = self._head[key]
        dtype = np.dtype(_TYPES[entry["dtype"]])
        count = part.stop - part.start
        view = self._buffer[: count * dtype.itemsize]
        self._file.seek(self._body + entry["data_offsets"][0] + part.start * dtype.itemsize)
        got = self._file.readinto(memoryview(view))  # type: ignore[attr-defined]
        if got != view.nbytes:
            raise BadState("a spooled reply must be whole", value=key)
        return view.view(dtype)

    def close(self) -> None:
        self._file.close()
