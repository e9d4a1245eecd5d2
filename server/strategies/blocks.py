"""The replies of a round side by side: read from their files in blocks by two threads, in the order of the sites' names.

A file's arrays lie one after another, the wide types first. All arrays of one type are one *run* of values, so that a network is a few long
sums and not hundreds. Plain reads into a small buffer: mapped pages count as memory, and the kernel maps two megabytes of each site at a touch.
How a run is cut into stretches is fixed, whatever the threads: sums over stretches have the same bits everywhere.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadState

BLOCK = 1 << 14
"""Values of one site that are worked on at a time: eight sites' in float64 fit the second-level cache of a core."""

CACHED = 1 << 18
"""Values of all sites together that are worked on at a time where every site's are needed at once."""

THREADS = 2
"""Most threads. More would wait for the memory."""

STRETCH = 16 * BLOCK
"""Values of a run that one thread takes at a time."""

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

Found = TypeVar("Found")


@dataclass(frozen=True)
class Run:
    """Arrays of one type that lie side by side: `keys`, where each ends in values, and the byte of the body where they begin."""

    keys: tuple[str, ...]
    ends: tuple[int, ...]
    dtype: np.dtype[Any]
    first_byte: int

    @property
    def size(self) -> int:
        """Values of all keys together."""
        return self.ends[-1]

    def of(self, state: State, part: slice) -> np.ndarray:
        """Return the values of `state` at `part` of the run, flat; a view where they lie in one array."""
        found, begin = [], 0
        for key, end in zip(self.keys, self.ends, strict=True):
            if begin < part.stop and part.start < end:
                found.append(state[key].reshape(-1)[max(0, part.start - begin) : part.stop - begin])
            begin = end
        return found[0] if len(found) == 1 else np.concatenate(found)


def runs(like: State) -> list[Run]:
    """Return the runs of `like` in the order in which `state_parts` writes them.

    Examples
    --------
    >>> [(run.keys, run.ends) for run in runs({"b": np.zeros(2), "a": np.zeros((2, 2)), "n": np.zeros(3, np.int32)})]
    [(('a', 'b'), (4, 6)), (('n',), (3,))]
    """
    order, found, byte = sorted(like, key=lambda key: (-like[key].dtype.itemsize, key)), [], 0
    for dtype, group in itertools.groupby(order, key=lambda key: like[key].dtype):
        keys = tuple(group)
        found.append(Run(keys, tuple(itertools.accumulate(like[key].size for key in keys)), dtype, byte))
        byte += found[-1].size * dtype.itemsize
    return found


def pieces(part: slice, size: int = BLOCK) -> Iterator[slice]:
    """Cut a slice into slices of at most `size`.

    Examples
    --------
    >>> [(piece.start, piece.stop) for piece in pieces(slice(3, 10), 4)]
    [(3, 7), (7, 10)]
    """
    for start in range(part.start, part.stop, size):
        yield slice(start, min(start + size, part.stop))


def by_piece(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield flat views of arrays of one size, a piece of each at a time: what is computed from them needs no memory of their size.

    Examples
    --------
    >>> total = np.zeros((2, 2))
    >>> for into, values in by_piece(total, np.ones((2, 2))):
    ...     into += 2 * values
    >>> total.tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    flat = [value.reshape(-1) for value in arrays]
    for piece in pieces(slice(0, flat[0].size)):
        yield tuple(value[piece] for value in flat)


class Flat:
    """A state to be filled run by run: memory for all keys of a run in one piece."""

    def __init__(self, like: State) -> None:
        self._like = like
        self._flat = {run: np.empty(run.size, run.dtype) for run in runs(like)}

    def put(self, run: Run, part: slice, values: np.ndarray) -> None:
        """Store float64 values; whole numbers are rounded to the nearest."""
        self._flat[run][part] = np.rint(values) if run.dtype.kind in "iub" else values

    def state(self) -> State:
        """Return what was stored, with the keys and shapes of `like`."""
        result: State = {}
        for run, flat in self._flat.items():
            for key, value in zip(run.keys, np.split(flat, run.ends[:-1]), strict=True):
                result[key] = value.reshape(self._like[key].shape)
        return {key: result[key] for key in self._like}


class Rows:
    """All sites' values of a stretch of a run, read when asked for."""

    def __init__(self, files: Sequence[tuple[int, int]], run: Run, part: slice, held: dict[str, np.ndarray]) -> None:
        self.run, self.part = run, part
        self._files, self._held = files, held

    def read(self, piece: slice, first: int = 0, count: int | None = None) -> np.ndarray:
        """Return the values of `count` sites from number `first` on at `piece` of the run, shape (sites, values).

        The memory is used again by the next call.

        Raises
        ------
        BadState
            A file that has become shorter.
        """
        files, n = self._files[first : None if count is None else first + count], piece.stop - piece.start
        rows = self.room("read", len(files), n, dtype=self.run.dtype)
        for row, (number, body) in zip(rows, files, strict=True):
            if os.preadv(number, [row], body + self.run.first_byte + piece.start * row.itemsize) != row.nbytes:
                raise BadState("a spooled reply must be whole", value=self.run.keys[0])
        return rows

    def room(self, name: str, *shape: int, dtype: np.dtype[Any] | type = np.float64) -> np.ndarray:
        """Return memory to work in, with whatever is in it: a thread's stretches share what goes by one name, for new pages cost time."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._held or self._held[name].size < size:
            self._held[name] = np.empty(size, np.uint8)
        return self._held[name][:size].view(dtype).reshape(shape)


class Blocks:
    """The files of a round's replies, open and checked against the layout of `like`.

    Raises
    ------
    BadState
        A file of another layout or length.
    """

    def __init__(self, paths: Sequence[Path], like: State) -> None:
        self.runs = runs(like)
        self._files: list[tuple[int, int]] = []
        try:
            for path in paths:
                self._open(path, like)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, path: Path, like: State) -> None:
        number = os.open(path, os.O_RDONLY)
        self._files.append((number, 0))
        length = int.from_bytes(os.pread(number, 8, 0), "little")
        head: dict[str, Any] = json.loads(os.pread(number, length, 8))
        head.pop("__metadata__", None)
        starts, byte = {}, 0
        for run in self.runs:
            for key, end in zip(run.keys, run.ends, strict=True):
                starts[key] = run.first_byte + (end - like[key].size) * run.dtype.itemsize
            byte = run.first_byte + run.size * run.dtype.itemsize
        for key in head.keys() | like.keys():
            entry = head.get(key)
            wanted = (list(like[key].shape), like[key].dtype, starts[key]) if key in like else None
            if entry is None or (entry["shape"], np.dtype(_TYPES[entry["dtype"]]), entry["data_offsets"][0]) != wanted:
                raise BadState("a spooled reply has the layout of the global model", value=key)
        if os.fstat(number).st_size != 8 + length + byte:
            raise BadState("a spooled reply must be whole", value=path.stem)
        self._files[-1] = number, 8 + length

    def walk(self, visit: Callable[[Rows], Found]) -> list[Found]:
        """Call ``visit(rows)`` for all stretches of all runs, by two threads, and return what it returned, in order.

        `visit` reads as it likes within ``rows.part`` and may write what no other stretch writes.
        """
        stretches = [(run, part) for run in self.runs for part in pieces(slice(0, run.size), STRETCH)]
        threads = min(THREADS, len(os.sched_getaffinity(0)), len(stretches))
        left, found = iter(enumerate(stretches)), dict[int, Found]()

        def work() -> None:
            held: dict[str, np.ndarray] = {}
            try:
                for number, stretch in left:
                    found[number] = visit(Rows(self._files, *stretch, held))
            except BaseException:
                for _ in left:  # nothing more is begun
                    pass
                raise

        if threads < 2:
            work()
        else:
            # This thread works with the others: one that only waited for them would be woken, and take the lock from them, at each stretch.
            with ThreadPoolExecutor(threads - 1) as pool:
                others = [pool.submit(work) for _ in range(threads - 1)]
                work()
                for other in others:
                    other.result()
        return [found[number] for number in range(len(stretches))]

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        for number, _body in self._files:
            os.close(number)
        self._files.clear()
