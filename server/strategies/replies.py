"""The spool of a round's replies: on disk as they arrive, read back in roster order, so that any arrival order gives the same bits.

Every valid update is written to a file at once. When the round closes, the sums run over blocks that fit the processor's cache: for each
block, each site's values are read from its file in the order of the sites' names, weighted and added in float64. Memory is therefore one
new model and a few blocks, however many sites there are, and every byte is read once.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.core.files import read_state, state_parts, write_atomic

BLOCK = 1 << 14
"""Values of one site that are summed at a time."""

GROUP = 8
"""Sites whose blocks are held at a time."""

_TYPES = {
    "F32": np.float32,
    "F64": np.float64,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
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
    staleness: int = 0
    """Rounds that have closed since the site was asked; its state has been moved to the round's own start."""
    place: int = 0
    """Its turn among sites that train one after another, from 1; 0 where all train at once."""
    metrics: Mapping[str, float] = field(default_factory=dict)


class Spool:
    """The replies of one round in a folder.

    Parameters
    ----------
    folder : Path
        Made when missing; `clear` removes it.
    durable : bool
        Flush each reply to disk: a deployed server recovers replies after a crash, a simulation repeats the round instead.
    factor : float
        Factor on the sites' learning rate in this round.
    """

    def __init__(self, folder: Path, *, durable: bool = False, factor: float = 1.0) -> None:
        self.folder, self.durable, self.factor = Path(folder), durable, factor
        self._replies: dict[str, Reply] = {}

    def add(self, site: str, state: State, *, num_cases: int, steps: int, **more: Any) -> None:
        """Store one update; a second one of the same site is refused. `more` are further fields of its `Reply`."""
        if site in self._replies:
            raise BadState("a site replies once a round", value=site)
        path = self.folder / f"{site}.safetensors"
        write_atomic(path, state_parts(state, {"num_cases": str(num_cases), "steps": str(steps)}), durable=self.durable)
        self._replies[site] = Reply(site, path, num_cases, steps, **more)

    def take_up(self, site: str, path: Path, *, num_cases: int, steps: int, **more: Any) -> None:
        """Count a file of this folder that an earlier process spooled and whose content was verified (`server/runs/journal`)."""
        self._replies[site] = Reply(site, path, num_cases, steps, **more)

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
        with _Files(self.replies, like) as files:
            for key in sorted(like):
                for start in range(0, like[key].size, BLOCK):
                    part = slice(start, min(start + BLOCK, like[key].size))
                    values = np.empty((len(files), part.stop - start), like[key].dtype)
                    files.read(files.starts[key] + start * values.itemsize, values, key=key)
                    yield key, part, values.astype(np.float64)

    def weighted_mean(self, like: State, weights: list[float]) -> State:
        """Return ``sum_i w_i x_i / sum_i w_i`` with the keys, shapes and types of `like`.

        Integer keys (counters) are rounded to the nearest integer.

        Raises
        ------
        BadState
            No replies, weights that do not sum to a positive number, or a reply of another layout.
        """
        replies = self.replies
        total = float(sum(weights))
        if not replies or len(weights) != len(replies) or not total > 0:
            raise BadState("a mean needs replies and a positive total weight", value=(len(replies), total))
        shares = np.array([w / total for w in weights])
        result: State = {}
        with _Files(replies, like) as files:
            for keys in _runs(like):
                # All keys of one type lie side by side in the files and so in the result: a network is a few long sums, not hundreds.
                flat = np.empty(sum(like[key].size for key in keys), like[keys[0]].dtype)
                block, sums, more = np.empty((min(GROUP, len(files)), BLOCK), flat.dtype), np.empty(BLOCK), np.empty(BLOCK)
                for start in range(0, flat.size, BLOCK):
                    n = min(BLOCK, flat.size - start)
                    for first in range(0, len(files), GROUP):
                        rows = block[: min(GROUP, len(files) - first), :n]
                        files.read(files.starts[keys[0]] + start * flat.itemsize, rows, key=keys[0], first=first)
                        np.einsum("i,ij->j", shares[first : first + len(rows)], rows, out=(more if first else sums)[:n])
                        if first:
                            sums[:n] += more[:n]
                    flat[start : start + n] = np.rint(sums[:n]) if flat.dtype.kind in "iub" else sums[:n]
                at = 0
                for key in keys:
                    result[key] = flat[at : at + like[key].size].reshape(like[key].shape)
                    at += like[key].size
        return {key: result[key] for key in like}

    def clear(self) -> None:
        """Forget the replies and remove their files."""
        self._replies.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _order(like: State) -> list[str]:
    return sorted(like, key=lambda key: (-like[key].dtype.itemsize, key))  # as `state_parts` writes them


def _runs(like: State) -> Iterator[list[str]]:
    """Give the keys of `like` as they follow each other in a file, one list for each stretch of one type."""
    for _, keys in itertools.groupby(_order(like), key=lambda key: like[key].dtype):
        yield list(keys)


class _Files:
    """The spooled replies, read by blocks with plain reads: mapped pages would count as memory."""

    def __init__(self, replies: list[Reply], like: State) -> None:
        self.starts: dict[str, int] = {}
        end = 0
        for key in _order(like):
            self.starts[key] = end
            end += like[key].nbytes
        self._like, self._numbers, self._bodies = like, [], []
        try:
            for reply in replies:
                self._open(reply)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, reply: Reply) -> None:
        number = os.open(reply.path, os.O_RDONLY)
        self._numbers.append(number)
        (length,) = struct.unpack("<Q", os.pread(number, 8, 0))
        head: dict[str, Any] = json.loads(os.pread(number, length, 8))
        head.pop("__metadata__", None)
        for key in head.keys() | self._like.keys():
            entry, like = head.get(key), self._like.get(key)
            wanted = None if like is None else (list(like.shape), like.dtype, self.starts[key])
            if entry is None or (entry["shape"], np.dtype(_TYPES[entry["dtype"]]), entry["data_offsets"][0]) != wanted:
                raise BadState("a spooled reply has the layout of the global model", value=key)
        self._bodies.append(8 + length)

    def read(self, start: int, rows: np.ndarray, *, key: str, first: int = 0) -> None:
        """Fill `rows` with the values that lie at byte `start` of the files from number `first` on, one file a row."""
        for row, number, body in zip(rows, self._numbers[first:], self._bodies[first:], strict=False):
            if os.preadv(number, [row], body + start) != row.nbytes:
                raise BadState("a spooled reply must be whole", value=key)

    def __len__(self) -> int:
        return len(self._numbers)

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._numbers:
            os.close(number)
        self._numbers.clear()
