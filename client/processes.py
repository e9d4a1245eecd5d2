"""Work spread over processes, in order, surviving the death of any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context
from types import TracebackType
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Processes:
    """A context manager over `count` warm worker processes; one process means this one.

    They are forked from a clean server process that has imported the readers once, so nothing of this process's threads or locks leaks into
    them and the second job starts at once (where the system has no fork, each starts afresh). A decoder that takes its process down
    costs the item it worked on and nothing else: what was under way is run again, one item to a process.

    Examples
    --------
    >>> with Processes(1) as workers:
    ...     list(workers.map(abs, [-1, 2], lost=lambda item: 0))
    [1, 2]
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def map(self, function: Callable[[A], R], items: Sequence[A], *, lost: Callable[[A], R]) -> Iterator[R]:
        """Yield ``function(item)`` in the order of `items`, or ``lost(item)`` where the process died over it."""
        if self.count <= 1 or len(items) <= 1:
            yield from map(function, items)
            return
        done = 0
        try:
            for result in self._open(self.count).map(function, items):
                yield result
                done += 1
        except BrokenProcessPool:
            self._close()
            for item in items[done:]:
                try:
                    yield self._open(1).submit(function, item).result()
                except BrokenProcessPool:
                    self._close()
                    yield lost(item)
            self._close()

    def _open(self, count: int) -> ProcessPoolExecutor:
        if self.pool is None:
            context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
            if context.get_start_method() == "forkserver":
                context.set_forkserver_preload(["client.prepare"])
            self.pool = ProcessPoolExecutor(count, mp_context=context)
        return self.pool

    def _close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.pool = None
