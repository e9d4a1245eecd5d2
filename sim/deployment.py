"""A whole deployment on this machine: a server and its hospitals as separate processes on loopback, with keys, TLS and approvals.

Everything goes through the same commands that an administrator types; nothing is called in process. What systemd does in earnest (start a
daemon again that has died) is done here by `start_server` and `start_site`.

    <out>/server/          made by `fedild server init`
    <out>/sites/<name>/    made by `fedild site init`; a hospital of its own
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from server.queue import Entry, Queue
from shared_models.core.errors import FedILDError
from shared_models.core.files import read_json

COMMAND_S = 300.0
"""Seconds that one command may take; the longest is `fedild site prepare`."""
READY_S = 120.0
STOP_S = 60.0
CONSORTIUM = "phantoms"


@dataclass
class Deployment:
    """One server and its sites in `out`; as a context it ends every process that it started.

    Parameters
    ----------
    out : Path
        New folder.
    told : callable, optional
        Told what is being done, a line at a time.
    """

    out: Path
    told: Callable[[str], None] = lambda line: None
    _processes: dict[Path, subprocess.Popen] = field(default_factory=dict)

    @property
    def server(self) -> Path:
        """The server folder."""
        return self.out / "server"

    def site(self, name: str) -> Path:
        """Return a site folder."""
        return self.out / "sites" / name

    def found(self, names: Sequence[str]) -> None:
        """Make the server, start it, make each site's keys, exchange request and kit, start the sites.

        A ``site.toml`` that is there already is kept.

        Raises
        ------
        FedILDError
            A command failed or a program was not ready in time.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        port, fleet = free_ports(2)
        self.told(f"server on 127.0.0.1:{port}")
        address = ("--address", f"127.0.0.1:{port}", "--listen-host", "127.0.0.1", "--listen-port", str(port), "--fleet-port", str(fleet))
        fedild("server", "init", str(self.server), "--name", CONSORTIUM, *address)
        self.start_server()
        for name in names:
            fedild("site", "init", str(self.site(name)), "--name", name)
        self.wait_ready(self.server)
        for name in names:
            self.told(f"{name}: request, kit, join")
            request = read_json(self.site(name) / "request.json")
            fedild(
                "server", "approve-site", str(self.site(name) / "request.json"), "--fingerprint", request["fingerprint"], "--folder", str(self.server)
            )
            fedild("site", "join", str(self.server / "kits" / f"{name}.json"), "--folder", str(self.site(name)))

    def start_server(self) -> None:
        """Start ``fedild server up`` in the background."""
        self._start(self.server, "server")

    def start_site(self, name: str) -> None:
        """Start ``fedild site up`` in the background."""
        self._start(self.site(name), "site")

    def pid(self, folder: Path) -> int:
        """Return the process of a folder's supervisor."""
        return self._processes[folder].pid

    def is_up(self, folder: Path) -> bool:
        """Say whether a folder's supervisor was started and lives."""
        return folder in self._processes and self._processes[folder].poll() is None

    def kill(self, folder: Path) -> None:
        """Kill a supervisor with SIGKILL and collect it."""
        process = self._processes[folder]
        process.kill()
        process.wait()

    def wait_ready(self, folder: Path, *, timeout_s: float = READY_S) -> None:
        """Wait until every program of a folder is ready.

        Raises
        ------
        FedILDError
            It took too long, or the supervisor ended.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            programs = running_in(folder)
            if programs and all(program["ready"] for program in programs.values()):
                return
            if self._processes[folder].poll() is not None:
                raise FedILDError("a daemon must stay up", value=_tail(folder / "daemon.log"))
            time.sleep(0.2)
        raise FedILDError("a daemon's programs must be ready in time", value=running_in(folder), remedy=f"see {folder / 'logs'}")

    def order(self, experiment: Path, names: Sequence[str]) -> str:
        """Put a run into the queue and return its identifier."""
        return fedild("server", "run", str(experiment), "--sites", ",".join(names), "--folder", str(self.server)).split()[-1]

    def follow(self, run: str, *, timeout_s: float, look: Callable[[Entry], None] | None = None) -> Entry:
        """Wait until a run is over and return its line of the queue.

        Raises
        ------
        FedILDError
            It did not finish, or not in time.
        """
        queue, until, before = Queue(self.server / "queue.db"), time.monotonic() + timeout_s, ""
        while time.monotonic() < until:
            entry = queue.get(run)
            path = self.server / "runs" / run / "run.json"
            standing = read_json(path) if path.exists() else {}
            line = f"{entry.state} {standing.get('round', 0)}/{standing.get('rounds', '?')} {entry.note}".strip()
            if line != before:
                self.told(f"run {run}: {line}")
                before = line
            if entry.state == "finished":
                return entry
            if entry.state in ("failed", "stopped"):
                raise FedILDError("the run must finish", value=entry.note)
            if look is not None:
                look(entry)
            time.sleep(0.2)
        raise FedILDError("the run must finish in time", value=before, remedy=f"see {self.server / 'logs'}")

    def stop(self) -> None:
        """End the sites, then the server, with SIGTERM; what does not end is killed."""
        for folder in sorted(self._processes, key=lambda folder: folder == self.server):
            process = self._processes[folder]
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def __enter__(self) -> Deployment:
        # Daemons live in sessions of their own: a SIGTERM to this process must reach `stop` as Ctrl-C does.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(self, folder: Path, side: str) -> None:
        with open(folder / "daemon.log", "ab") as output:
            command = [*PROGRAM, side, "up", "--folder", str(folder)]
            self._processes[folder] = subprocess.Popen(
                command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )


PROGRAM = (sys.executable, "-m", "sim.cli")


def fedild(*words: str) -> str:
    """Run a `fedild` command in a process of its own and return what it printed.

    Raises
    ------
    FedILDError
        It ended with another code than 0.
    """
    done = subprocess.run(
        [*PROGRAM, *words], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    if done.returncode:
        raise FedILDError(f"`fedild {' '.join(words[:2])}` must succeed", value=done.stderr.strip()[-2000:])
    return done.stdout


def running_in(folder: Path) -> dict[str, dict]:
    """Return the programs that a folder's supervisor runs: name to pid, ready, restarts."""
    try:
        return dict(read_json(folder / "up.json")["programs"])
    except (OSError, ValueError, KeyError):
        return {}


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _environment() -> dict[str, str]:
    # Programs run in folders without code; a checkout that is not installed is found through the path.
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-1000:] if path.exists() else ""
