"""Persistent warm worker processes: one a core, one torch thread each, started once while the parent goes on with its own imports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, BinaryIO

from shared_models.core.errors import FedILDError

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# On a busy machine the default of many threads made small steps up to seven times slower than one thread a process.


class Pool:
    """A few worker processes that answer calls of module-level functions.

    Parameters
    ----------
    processes : int
        Usually one a core.
    experiment : str, optional
        An experiment as JSON, as sites receive it; its model is built once before the fork, and so is what it imports.

    Examples
    --------
    >>> with Pool(1) as pool:
    ...     pool.map("math", "sqrt", [(4.0,), (9.0,)])
    [2.0, 3.0]
    """

    def __init__(self, processes: int, *, experiment: str | None = None) -> None:
        pairs = [socket.socketpair() for _ in range(processes)]
        environment = os.environ | THREADS | ({"FEDILD_WARM": experiment} if experiment else {})
        self.broadcast = _nameless()
        self._boxes = [(_nameless(), _nameless()) for _ in range(processes)]
        numbers = [[end.fileno(), *(box.fileno() for box in boxes)] for (_, end), boxes in zip(pairs, self._boxes, strict=True)]
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "sim.nursery", str(self.broadcast.fileno()), *(":".join(map(str, line)) for line in numbers)],
            pass_fds=[self.broadcast.fileno(), *(number for line in numbers for number in line)],
            env=environment,
        )
        for _, end in pairs:
            end.close()
        self._lines = [Connection(ours.detach()) for ours, _ in pairs]
        self._busy: dict[int, tuple[Any, Any]] = {}
        self._queue: deque[tuple[Any, Any, tuple[str, str, tuple]]] = deque()
        self._homes: dict[Any, int] = {}
        self._answers = [0] * processes

    def submit(self, ticket: Any, module: str, function: str, arguments: tuple, *, home: Any = None) -> None:
        """Queue a call. `ticket` comes back with its result; calls with one `home` prefer one process, whose caches are then warm."""
        self._queue.append((ticket, home, (module, function, arguments)))
        self._feed()

    def results(self, timeout_s: float | None) -> list[tuple[Any, Any]]:
        """Return finished ``(ticket, result)``; waits up to `timeout_s` for the first one, for ever when None.

        The boxes of the processes that answered may be read until the next call.

        Raises
        ------
        FedILDError
            A call raised (with its traceback), or a process died.
        """
        busy = [self._lines[i] for i in self._busy]
        if not busy:
            return []
        done = []
        for line in wait(busy, timeout_s):
            number = self._lines.index(line)  # type: ignore[arg-type]
            ticket, _ = self._busy.pop(number)
            try:
                good, value = line.recv()  # type: ignore[union-attr]
            except (EOFError, OSError):
                raise _dead() from None
            self._answers[number] += 1  # the process counts failed tasks too: both sides must agree on the box
            if not good:
                raise FedILDError(f"a task of the simulation failed\n{value}")
            done.append((ticket, (value, self._boxes[number][self._answers[number] % 2]) if ticket[0] == "boxed" else value))
        self._feed()
        return done

    @property
    def pending(self) -> int:
        """Calls queued or running."""
        return len(self._queue) + len(self._busy)

    def map(self, module: str, function: str, calls: Iterable[tuple], *, on_done: Callable[[int, Any], None] | None = None) -> list[Any]:
        """Call a function with each tuple of arguments and return the results in order."""
        calls = list(calls)
        mine = object()
        for number, arguments in enumerate(calls):
            self.submit((mine, number), module, function, arguments)
        answers: list[Any] = [None] * len(calls)
        while self.pending:
            for (whose, number), value in self.results(None):
                if whose is not mine:
                    continue  # left over from a call that failed
                answers[number] = value
                if on_done:
                    on_done(number, value)
        return answers

    def close(self) -> None:
        """Close the lines; the processes end by themselves."""
        for line in self._lines:
            line.close()
        for file in (self.broadcast, *(box for boxes in self._boxes for box in boxes)):
            file.close()
        self._nursery.wait(timeout=60)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _feed(self) -> None:
        for number, line in enumerate(self._lines):
            if number in self._busy or not self._queue:
                continue
            here = [i for i, (_, home, _) in enumerate(self._queue) if home is None or self._homes.get(home, number) == number]
            at = here[0] if here else 0
            ticket, home, call = self._queue[at]
            del self._queue[at]
            if home is not None:
                self._homes.setdefault(home, number)
            self._busy[number] = (ticket, home)
            try:
                line.send(call)
            except OSError:
                raise _dead() from None


def _dead() -> FedILDError:
    return FedILDError("a worker process must stay alive", remedy="look for the out-of-memory killer; resume the run")


def _nameless() -> BinaryIO:
    """Return a file without a name, in memory where the system has such a place: it is gone when the last process closes it."""
    memory = Path("/dev/shm")  # noqa: S108 - the file has no name there
    return tempfile.TemporaryFile(dir=memory if memory.is_dir() else None, buffering=0)  # type: ignore[return-value]
