"""Progress bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


class Progress:
    """Bars of several phases, on standard error; results stay alone on standard output.

    Examples
    --------
    >>> with Progress(quiet=True) as progress:
    ...     step = progress.bar("preparing")
    ...     step(1, 10)
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._rich: Any = None
        self._said: dict[str, float] = {}

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self._rich = Bars(*columns, console=Console(stderr=True))
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich:
            self._rich.stop()

    def bar(self, name: str) -> Callable[[int, int], None]:
        """Return ``step(done, total)``, which moves the bar called `name`."""
        task = self._rich.add_task(name, total=None) if self._rich else None

        def step(done: int, total: int) -> None:
            if self._rich:
                self._rich.update(task, completed=done, total=total)
            elif not self.quiet and (done >= total or time.monotonic() - self._said.get(name, 0) > 5):
                self._said[name] = time.monotonic()
                print(f"{name}: {done}/{total}", file=sys.stderr, flush=True)

        return step

    def say(self, text: str) -> None:
        """Print a line of information."""
        if not self.quiet:
            (self._rich.console.print if self._rich else lambda t: print(t, file=sys.stderr, flush=True))(text)
