"""Work spread over processes, in order, surviving the death of any of them; what takes too much memory or time is ended and named."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

A = TypeVar("A")
R = TypeVar("R")

Lost = Literal["FAILED", "TOO_LARGE", "TOO_SLOW"]
"""Why an item has no result: its process died over it, or was ended because of its memory or its time."""
LOOK_S = 0.05
"""Seconds between two looks at the memory and the time of those that work."""
TRIES = 2
"""A process that dies is not proof against its item (another program may have taken the memory): the item gets a second chance."""


@dataclass(frozen=True)
class Limits:
    """What one item may take: megabytes of resident memory of its process, seconds.

    Examples
    --------
    >>> Limits(memory_mb=2000).seconds is None
    True
    """

    memory_mb: float | None = None
    seconds: float | None = None

    def broken_by(self, process: int, began: float) -> Lost | None:
        """Return which limit a process that began its item at `began` (monotonic clock) has passed, if any."""
        if self.seconds is not None and time.monotonic() - began > self.seconds:
            return "TOO_SLOW"
        if self.memory_mb is not None and resident_mb(process) > self.memory_mb:
            return "TOO_LARGE"
        return None


NO_LIMITS = Limits()


def resident_mb(process: int) -> float:
    """Return the resident memory of a process, MB; 0 when it has ended."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


@dataclass
class _Worker(Generic[A]):
    process: BaseProcess
    line: connection.Connection
    index: int = -1
    began: float = math.inf  # the clock of its item starts when it says that it has started itself
    is_up: bool = False


class Processes:
    """A context manager over `count` warm worker processes; one process means this one, unless there are limits to hold.

    They are forked from a clean server process that has imported the readers once, so nothing of this process's threads or locks leaks into
    them and the second job starts at once (where the system has no fork, each starts afresh). A decoder that takes its process down
    costs the item it worked on and nothing else: it is tried once more in a fresh process, and then given up. An item that passes a limit
    is given up at once.

    Parameters
    ----------
    count : int
        Worker processes.
    limits : Limits, optional
        Of each item.

    Examples
    --------
    >>> with Processes(1) as workers:
    ...     list(workers.map(abs, [-1, 2], lost=lambda item, reason: 0))
    [1, 2]
    """

    def __init__(self, count: int, *, limits: Limits = NO_LIMITS) -> None:
        self.count, self.limits = max(1, count), limits
        self.workers: list[_Worker[Any]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in list(self.workers):
            self._end(worker)

    def map(
        self,
        function: Callable[[A], R],
        items: Sequence[A],
        *,
        lost: Callable[[A, Lost], R],
        begun: Callable[[int], None] = lambda index: None,
        ended: Callable[[int, R], None] = lambda index, result: None,
    ) -> Iterator[R]:
        """Yield ``function(item)`` in the order of `items`, or ``lost(item, reason)`` where there can be no result.

        `begun` is called with an item's index when it is given out (again, where it is tried again), `ended` with its result as soon as that
        is there, both in this process.
        """
        if self.limits == NO_LIMITS and (self.count == 1 or len(items) <= 1):
            for index, item in enumerate(items):
                begun(index)
                result = function(item)
                ended(index, result)
                yield result
            return
        waiting, tries, results, done = deque(range(len(items))), [0] * len(items), dict[int, R](), 0
        try:
            while done < len(items):
                self._give_out(function, items, waiting, tries, begun)
                for index, found in self._look():
                    if found == "DIED" and tries[index] < TRIES:
                        waiting.appendleft(index)
                        continue
                    results[index] = lost(items[index], "FAILED" if found == "DIED" else found) if isinstance(found, str) else found[0]
                    ended(index, results[index])
                while done in results:
                    yield results.pop(done)
                    done += 1
        finally:
            for worker in [worker for worker in self.workers if worker.index >= 0]:
                self._end(worker)

    def _give_out(self, function: Callable[[A], R], items: Sequence[A], waiting: deque[int], tries: list[int], begun: Callable[[int], None]) -> None:
        free = [worker for worker in self.workers if worker.index < 0]
        while waiting and (free or len(self.workers) < self.count):
            worker = free.pop() if free else self._start()
            index = waiting.popleft()
            begun(index)
            tries[index] += 1
            worker.index = index
            if worker.is_up:
                worker.began = time.monotonic()
            try:
                worker.line.send((function, items[index]))
            except OSError:
                continue  # it died while it was idle: the next look finds it

    def _look(self) -> Iterator[tuple[int, tuple[Any] | Lost | Literal["DIED"]]]:
        busy = {worker.line: worker for worker in self.workers if worker.index >= 0}
        limited = self.limits != NO_LIMITS
        ready = connection.wait([*busy], timeout=LOOK_S if limited else None)
        for line, worker in busy.items():
            index = worker.index
            if line in ready:
                try:
                    answer = worker.line.recv()
                except (EOFError, OSError):
                    self._end(worker)
                    yield index, "DIED"
                    continue
                if answer is None:
                    worker.is_up, worker.began = True, time.monotonic()
                    continue
                result, error = answer
                worker.index = -1
                if isinstance(error, MemoryError):
                    yield index, "TOO_LARGE"
                elif error is not None:
                    raise error
                else:
                    yield index, (result,)
            elif limited and (passed := self.limits.broken_by(worker.process.pid or 0, worker.began)):
                self._end(worker)
                yield index, passed

    def _start(self) -> _Worker[Any]:
        context: BaseContext = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(["client.prepare"])
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=False)  # pyright: ignore[reportAttributeAccessIssue]
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))  # pyright: ignore[reportArgumentType]  (a pipe elsewhere)
        return self.workers[-1]

    def _end(self, worker: _Worker[Any]) -> None:
        self.workers.remove(worker)
        worker.line.close()  # an idle one ends by itself
        if worker.index >= 0:
            worker.process.kill()
        worker.process.join()
        worker.process.close()


def _serve(line: connection.Connection) -> None:
    line.send(None)
    while True:
        try:
            function, item = line.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (function(item), None)
        except Exception as error:
            answer = (None, error)
        try:
            line.send(answer)
        except OSError:
            return
