"""Silence while training code runs: it prints nothing, writes no file, dials nobody and starts no process.

An audit hook of Python (PEP 578) refuses each attempt, and the update that follows is refused with E_OUTPUT. This is a second fence, not
a sandbox: code that a hospital approves runs with its worker's rights, and code in C can go around a hook. The hook cannot be removed once
set; it sleeps outside of `quiet`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_models.core.errors import Refused

FORBIDDEN = ("socket.connect", "socket.bind", "socket.sendto", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
FILES = ("os.rename", "os.mkdir", "os.link", "os.symlink", "os.remove", "os.rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SILENT = ("fedild", "py", "flwr", "monai", "numpy", "opacus", "sklearn", "torch")
"""Loggers of the house, which write to the site's own log, and of its libraries, which are not heard while training runs."""


@dataclass
class _Watch:
    """What training code may touch, which threads were there before it, and what it tried."""

    places: tuple[str, ...]
    others: frozenset[int]
    attempts: list[str] = field(default_factory=list)
    lifted: bool = False


_watch: list[_Watch] = []
_hooked: list[bool] = []


class _Sink(io.TextIOBase):
    """Takes what is printed and keeps nothing but the fact."""

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if text.strip() and threading.get_ident() not in self.watch.others:
            self.watch.attempts.append("print")
        return len(text)


class _Listener(logging.Handler):
    """Notes what is logged under a name that is not ours."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread not in self.watch.others and record.name.partition(".")[0] not in SILENT:
            self.watch.attempts.append("log")


@contextlib.contextmanager
def quiet(places: tuple[Path, ...]) -> Iterator[None]:
    """Let training code run in silence; it may write below `places` alone.

    Raises
    ------
    Refused
        E_OUTPUT, after the block: it tried to print, to log, to write elsewhere, to dial or to start something.
    """
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    others = frozenset(thread.ident for thread in threading.enumerate() if thread.ident is not None) - {threading.get_ident()}
    watch = _Watch(tuple(str(place.resolve()) + os.sep for place in places), others)
    sink, listener = _Sink(watch), _Listener(watch)
    logging.getLogger().addHandler(listener)
    _watch.append(watch)
    failure: Exception | None = None
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings(record=True):
            yield
    except Exception as error:
        failure = error
    finally:
        _watch.remove(watch)
        logging.getLogger().removeHandler(listener)
    if watch.attempts:
        raise Refused(
            "training code is silent: it prints, logs, writes and dials nothing",
            value=", ".join(sorted(set(watch.attempts))),
            remedy="the numbers that it returns are judged by the gate",
            code="E_OUTPUT",
        ) from failure
    if failure is not None:
        raise failure


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """Let the hospital's own code, called by training code (the ledger), write as usual."""
    before = [watch.lifted for watch in _watch]
    for watch in _watch:
        watch.lifted = True
    try:
        yield
    finally:
        for watch, was in zip(_watch, before, strict=True):
            watch.lifted = was


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watch or _watch[-1].lifted or threading.get_ident() in _watch[-1].others:
        return
    watch = _watch[-1]
    if event in FORBIDDEN:
        _refuse(watch, event)
    elif event == "open":
        path, mode, flags = arguments
        writes = bool(flags & WRITING) if isinstance(flags, int) else any(letter in str(mode) for letter in "wax+")
        if writes and not _may_write(watch, path):
            _refuse(watch, event)
    elif event in FILES and not _may_write(watch, arguments[0]):
        _refuse(watch, event)


def _may_write(watch: _Watch, path: Any) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return True  # a descriptor: it was opened before
    text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a hook must not build objects that audit themselves
    return (text + os.sep).startswith(watch.places) or text == os.devnull or (f"{os.sep}__pycache__" in text)


def _refuse(watch: _Watch, event: str) -> None:
    watch.attempts.append(event)
    raise PermissionError("training code is silent")
