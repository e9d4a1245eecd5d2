"""The worker as a process: ``python -m client.resident FOLDER``. The supervisor starts it; SIGTERM ends it within a training step.

It logs to ``logs/worker.log``, which stays at the site: what leaves is a code.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from client.audit import AuditLog
from client.guards import Guards
from client.identity import check_keys
from client.line import listen
from client.site import Site
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.events import event_log
from shared_models.core.locks import lock

if TYPE_CHECKING:
    from client.worker import Worker
    from shared_models.messages import Job, Update

LONGEST_SOCKET = 100
"""Bytes of a Unix socket's path that every system takes."""


def socket_path(folder: Path) -> Path:
    """Return where the worker of a site folder listens.

    Raises
    ------
    BadInput
        The folder's path is too long for a socket.
    """
    path = folder.resolve() / "worker.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise BadInput(f"a site folder's path has at most {LONGEST_SOCKET - 12} bytes", value=str(folder), remedy="choose a folder further up")
    return path


def is_listening(path: Path) -> bool:
    """Say whether a worker answers at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1.0)
        try:
            line.connect(str(path))
        except OSError:
            return False
    return True


def serve(folder: Path, *, stop: threading.Event) -> None:
    """Answer jobs for the site in `folder` until `stop` is set.

    Raises
    ------
    Refused
        Keys that are missing or open to others.
    BadInput
        Another worker serves this folder.
    """
    os.umask(0o077)
    site = Site.load(folder / "site.toml")
    check_keys(folder)
    for handler in event_log(folder / "logs" / "worker.log", "worker").handlers:
        logging.getLogger("fedild").addHandler(handler)
    logging.getLogger("fedild").setLevel(logging.INFO)
    log = logging.getLogger("fedild.resident")
    with lock(folder / "worker.lock", what="a worker"):
        guards = Guards.of(folder, site.workspace, stopping=stop.is_set)
        guards.approvals.entries()  # a damaged list is said at the start, not at the first job
        log.info("worker up, pid %s", os.getpid())
        listen(socket_path(folder), _handler(site, guards), stop=stop)
        log.info("worker down")


def _handler(site: Site, guards: Guards) -> Callable[[Job], Update]:
    workers: list[Worker] = []

    def handle(job: Job) -> Update:
        if not workers:
            from client.worker import Worker  # the libraries of training are loaded by the first job: until then the process stays small

            workers.append(Worker(site, guards=guards))
        return workers[0].handle(job)

    return handle


def main(arguments: list[str]) -> int:
    """Serve the folder named in `arguments` until SIGTERM or SIGINT; return the exit code."""
    folder = Path(arguments[0]).resolve()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(folder, stop=stop)
    except FedILDError as error:
        AuditLog(folder).note("refused", kind="worker", reason=error.code)
        print(error.line, file=sys.stderr)  # into the supervisor's log of this process
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
