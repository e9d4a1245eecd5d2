"""`fedild site up`: the worker, Flower's SuperNode and its superexec under one supervisor, for ever; with them, where the site wants it, the
watch of the inbox and the receiver.

The SuperNode only dials out. Its own interface listens on loopback and wants a secret, so no other user of the machine can take its tasks. A
server that refuses (a key that is not registered yet, a connection that has not run out) is asked again with pauses; `fedild site status`
gives the reason.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

from client.approval import Approvals, code_digest
from client.expiry import ExpiryWatch
from client.identity import check_keys
from client.link import why_refused
from client.resident import is_listening, socket_path
from client.site import Site
from shared_models.core.errors import BadInput
from shared_models.core.files import write_json
from shared_models.core.supervision import LEAN, Program, Supervisor, event_log
from shared_models.signing import write_private

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 15.0)
"""Pauses before a SuperNode that was refused dials again; the last one repeats for ever."""


def supervise(folder: Path) -> None:
    """Run the site until SIGTERM or SIGINT; every process that was started has ended when this returns.

    Raises
    ------
    BadInput
        The site has not joined a server, or a supervisor runs here already.
    Refused
        E_KEY_FILE, or E_APPROVALS: nothing is started on keys that are open to others or a list that was changed.
    """
    folder = folder.resolve()
    os.umask(0o077)
    check_keys(folder)
    approvals = Approvals(folder)
    approvals.entries()
    log = event_log(folder / "logs" / "up.log", "supervisor")
    supervisor = Supervisor(folder, programs_of(folder), tick=ExpiryWatch(folder, log), tick_s=5.0)
    approvals.audit.note("up", code=code_digest())
    try:
        supervisor.run()
    finally:
        approvals.audit.note("down")


def programs_of(folder: Path) -> list[Program]:
    """Return what runs at a site, in the order in which it starts.

    Raises
    ------
    BadInput
        The site has not joined a server.
    """
    site = Site.load(folder / "site.toml")
    authority = folder / "secrets" / "ca.crt"
    if site.server is None or not authority.exists():
        raise BadInput("a site joins a server before it runs", remedy="fedild site join KIT")
    address, listens = site.server.address, socket_path(folder)
    secret = folder / "secrets" / "superexec.secret"
    if not secret.exists():
        write_private(secret, secrets.token_hex(32).encode())
    home = folder / "flwr"
    home.mkdir(exist_ok=True, mode=0o700)
    here = {"FLWR_HOME": str(home), "FEDILD_SITE": str(folder), "FEDILD_SOCKET": str(listens)}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    port = _free_port()
    own_interface = ("--host", "127.0.0.1", "--port", str(port))
    guarded = ("--superexec-auth-secret-file", str(secret))

    def refused(code: int) -> None:
        # Flower says no more than that it was refused; the clock, which it does not name, is the usual suspect.
        del code
        write_json(folder / "link.json", {"refused": why_refused(address, authority)}, mode=0o600, durable=False)

    worker = Program(
        "resident",
        (sys.executable, "-m", "client.resident", str(folder)),
        environment=here,
        folder=home,
        ready=lambda: is_listening(listens),
    )
    node = Program(
        "supernode",
        (
            *(*_node(), "--superlink", address, "--root-certificates", str(authority)),
            *("--auth-supernode-private-key", str(folder / "secrets" / "node.key"), *own_interface, "--isolation", "process", *guarded),
        ),
        environment={**here, **LEAN, "PATH": path},
        folder=home,
        ready=lambda: _is_open(port),
        pauses_s=PAUSES_S,
        pause_of=refused,
    )
    executor = Program(
        "superexec",
        (*_executor(), "--insecure", "--runtime-api-address", f"127.0.0.1:{port}", *guarded),
        environment={**here, **LEAN, "PATH": path},
        folder=home,
    )
    watch = Program("inbox", (sys.executable, "-m", "client.watch", str(folder)), environment=here, folder=home)
    receive = Program("receiver", (sys.executable, "-m", "client.intake.receiver", str(folder)), environment=here, folder=home)
    return [worker, node, executor, *([watch] if site.site.watch else []), *([receive] if site.receiver else [])]


def _node() -> tuple[str, ...]:
    return (sys.executable, "-m", "client.node")


def _executor() -> tuple[str, ...]:
    return (sys.executable, "-m", "client.executor")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
