"""`fedild server up`: SuperLink, superexec and door under one supervisor, and the queue that keeps runs going.

The SuperLink keeps sites, messages and models in its database and runs each app in a process of its own, so a kill of any of them costs
seconds: the others wait for it to come back. What Flower cannot continue (a dead server app), the queue starts again in the same run folder.
"""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
import sys
from pathlib import Path

from server.caretaker import Caretaker
from server.dispatcher import Dispatcher
from server.flower import environment, superexec_command, superlink_command, write_connection
from server.folder import ServerFolder
from server.queue import Queue
from shared_models.core.errors import FedILDError
from shared_models.core.events import event_log
from shared_models.core.supervision import Program, Supervisor

REPORT_S = 300.0


def supervise(server: ServerFolder) -> None:
    """Run the server until SIGTERM or SIGINT; every process that was started has ended when this returns.

    Raises
    ------
    BadInput
        A supervisor runs in this folder already.
    """
    os.umask(0o077)
    log = event_log(server.path / "logs" / "runs.log", "runs")
    write_connection(server)
    dispatcher = Dispatcher(server, Queue(server.path / "queue.db"), finish=write_outcome, log=log)
    caretaker = Caretaker(server, dispatcher.queue, log)
    caretaker.step()

    def tick() -> None:
        caretaker.step()
        dispatcher.step()

    Supervisor(server.path, programs_of(server), tick=tick).run()


def programs_of(server: ServerFolder) -> list[Program]:
    """Return what runs at the server, in the order in which it starts. Working folders are empty of code: apps import what is installed."""
    surroundings = environment(server)
    home, listens = server.flower_home, server.settings.server
    host = "127.0.0.1" if listens.listen_host in ("0.0.0.0", "::") else listens.listen_host  # noqa: S104 - only compared
    return [
        Program(
            "superlink",
            superlink_command(server),
            environment=surroundings,
            folder=home,
            ready=lambda: answers_health(("127.0.0.1", listens.fleet_port), server.secrets / "ca.crt"),
        ),
        Program("superexec", superexec_command(server), environment=surroundings, folder=home),
        Program(
            "door",
            (sys.executable, "-m", "server.door", str(server.path)),
            environment=surroundings,
            folder=home,
            ready=lambda: answers_health((host, listens.listen_port), server.secrets / "ca.crt", named=False),
        ),
    ]


def answers_health(address: tuple[str, int], authority: Path, *, named: bool = True) -> bool:
    """Say whether ``GET /health`` over TLS is answered with 200 at `address`; `named` wants the address in the certificate."""
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = named
    line = http.client.HTTPSConnection(*address, timeout=2.0, context=context)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def write_outcome(folder: Path) -> None:
    """Write bundle and report of a finished run, in a process of its own: the supervisor stays small.

    Raises
    ------
    FedILDError
        It failed; the text is in the run's ``outcome.log``.
    """
    with open(folder / "outcome.log", "wb") as output:
        command = [sys.executable, "-m", "server.runs.outcome", str(folder)]
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=REPORT_S, check=False)
    if done.returncode:
        raise FedILDError("the report must be written", value=f"exit code {done.returncode}", remedy="see outcome.log in the run folder")
    (folder / "outcome.log").unlink()
