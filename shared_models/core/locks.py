"""Locks of folders: the kernel's (``flock``), which go with their holder, so a stale one cannot exist."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shared_models.core.errors import BadInput

LOOK_S = 0.1
"""Seconds between two tries to take a lock that another process holds."""


@contextlib.contextmanager
def lock(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the body; it names the holder's pid. Waits at most `wait_s` seconds for another holder to end.

    Raises
    ------
    BadInput
        Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= until:
                    holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
                    raise BadInput(
                        f"{what} runs once in a folder", value=f"process {holder}", remedy="stop it first, or choose another folder"
                    ) from None
            time.sleep(LOOK_S)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Say whether a living process holds the lock file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
