"""The line between messenger and worker: one frame each way over a Unix socket that only its owner may open.

This is all that the messenger knows of the hospital. It imports neither torch nor pydicom and can open no data.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared_models.core.errors import FedILDError, Refused
from shared_models.messages import HEADER_BYTES, Job, Update, frame_length, from_frame, to_frame

PATIENCE_S = 60.0
"""Seconds that the worker waits for a messenger that has stopped sending or reading: a stuck one must not keep the others out."""


def ask(path: Path, job: Job, *, timeout_s: float | None = None) -> Update:
    """Send `job` to the worker that listens at `path` and return its answer.

    Raises
    ------
    Refused
        E_NO_WORKER when nobody listens or the line breaks.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(timeout_s)
            line.connect(str(path))
            line.sendall(to_frame(job))
            return from_frame(_receive(line), Update)
    except OSError:
        raise Refused("the site's worker must be running", remedy="start it with `fedild site up`", code="E_NO_WORKER") from None


def listen(path: Path, handle: Callable[[Job], Update], *, stop: threading.Event) -> None:
    """Answer jobs at `path` one at a time until `stop` is set; the socket file is 0600 and removed at the end.

    Raises
    ------
    Refused
        Another worker already listens there.
    """
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise Refused("the socket's place must be free", remedy="remove the file that is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)  # left behind by a worker that was killed
            else:
                raise Refused("one worker serves a site", remedy="stop the other one first")
    before = os.umask(0o177)
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
    finally:
        os.umask(before)
    with server:
        server.listen(4)
        server.settimeout(0.2)
        while not stop.is_set():
            try:
                line, _ = server.accept()
            except TimeoutError:
                continue
            with line:
                line.settimeout(PATIENCE_S)
                # A messenger that was killed breaks the line; the next one is answered as usual.
                with suppress(OSError, FedILDError):
                    line.sendall(to_frame(handle(from_frame(_receive(line), Job))))
    path.unlink(missing_ok=True)


def _receive(line: socket.socket) -> bytes:
    header = _exactly(line, HEADER_BYTES)
    return header + _exactly(line, frame_length(header))


def _exactly(line: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        n = line.recv_into(view[got:])
        if n == 0:
            raise ConnectionError("the line was closed")
        got += n
    return bytes(data)
