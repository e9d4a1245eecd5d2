"""A supervisor: starts the programs of a folder, restarts what dies, ends all of them together, and leaves nobody behind.

Each program is a process group of its own, ends when the supervisor dies (`leash`), and carries a mark in its environment, so that
whatever a killed supervisor could not end is found and ended by the next one. One supervisor a folder (`locks`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared_models.core import leash
from shared_models.core.events import LOG_BYTES, event_log
from shared_models.core.files import read_json, write_json
from shared_models.core.locks import lock

MARK = "FEDILD_MARK"
LOOK_S = 0.1
"""Seconds between two looks at the programs."""
STEADY_S = 60.0
"""A program that has run so long starts again with the shortest pause when it dies."""
GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}
"""Environment of everything that is started: nothing reports home, looks for updates or installs packages."""
LEAN = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE": str(2 << 20),
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
}
"""Environment of Flower's programs: the C library then gives the pieces of a model back to the system when they are freed, not never; a piece,
which is held ten times over while it travels, is 2 MB long, not 5; and a message that has come is handed on at once, not up to a second later."""


@dataclass(frozen=True)
class Program:
    """What to start and when it is ready.

    Parameters
    ----------
    name : str
        Of its log, ``<name>.log``.
    command : sequence of str
        Program and arguments; never a secret, arguments are public on a machine.
    environment : mapping
        Added to the supervisor's own and to `OFFLINE`.
    folder : Path
        Working directory.
    ready : callable, optional
        Asked until it says yes; programs further down the list wait for it.
    ready_s : float
        A program that is not ready by then is restarted.
    pauses_s : sequence of float
        Pauses before restarts, one after another; the last one repeats for ever.
    pause_of : callable, optional
        Exit code to a pause that replaces the one in turn (a refusal that needs a minute, not a second).
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    ready: Callable[[], bool] | None = None
    ready_s: float = 90.0
    pauses_s: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 15.0)
    pause_of: Callable[[int], float | None] | None = None


@dataclass
class _Running:
    program: Program
    process: subprocess.Popen | None = None
    started: float = 0.0
    ready: bool = False
    restarts: int = 0
    in_turn: int = 0
    not_before: float = 0.0


def marked(mark: str) -> list[int]:
    """Return the processes whose environment carries `mark` (those of this user that the supervisor started, with their children)."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


class Supervisor:
    """Keep the programs of a folder running until SIGTERM or SIGINT.

    Parameters
    ----------
    folder : Path
        Holds ``up.lock``, ``up.json`` (what runs, for `status`) and ``logs/``.
    programs : sequence of Program
        Started in this order, ended in reverse.
    tick : callable, optional
        Called about once a second in a thread of its own while all programs are ready; an exception is logged, not raised.
    """

    def __init__(self, folder: Path, programs: Sequence[Program], *, tick: Callable[[], None] | None = None, tick_s: float = 1.0) -> None:
        self.folder, self.tick, self.tick_s = Path(folder), tick, tick_s
        self.log = event_log(self.folder / "logs" / "up.log", "supervisor")
        self.stopping = threading.Event()
        self.mark = secrets.token_hex(16)
        self._running = [_Running(program) for program in programs]
        self._all_ready = threading.Event()

    def run(self) -> None:
        """Start everything and stay until told to stop; returns when every process has ended.

        Raises
        ------
        BadInput
            Another supervisor runs in this folder.
        """
        with lock(self.folder / "up.lock", what="a supervisor"):
            self._end_leftovers()
            self._sweep()
            before = {number: signal.signal(number, lambda *_: self.stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
            thread = threading.Thread(target=self._ticking, name="tick", daemon=True)
            try:
                self._note(first=True)
                self.log.info("up", extra={"more": {"pid": os.getpid()}})
                thread.start()
                while not self.stopping.wait(LOOK_S):
                    self._look()
            finally:
                self.stopping.set()
                self._end_all()
                if thread.is_alive():
                    thread.join(timeout=GRACE_S)
                self._end_leftovers()
                (self.folder / "up.json").unlink(missing_ok=True)
                self.log.info("down")
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _look(self) -> None:
        all_ready = True
        for running in self._running:
            if running.process is None:
                if time.monotonic() >= running.not_before:
                    self._start(running)
            elif (code := running.process.poll()) is not None:
                self._ended(running, code)
            elif not running.ready:
                if running.program.ready is None or running.program.ready():
                    running.ready = True
                    self.log.info("ready", extra={"more": {"program": running.program.name, "after_s": round(time.monotonic() - running.started, 1)}})
                    self._note()
                elif time.monotonic() - running.started > running.program.ready_s:
                    self.log.warning("not ready in time", extra={"more": {"program": running.program.name}})
                    self._kill(running, signal.SIGKILL)
            else:
                self._trim(running.program.name)
            if not running.ready:
                all_ready = False
                if running.restarts == 0:
                    break  # at the first start the next ones wait; later each one is on its own
        if all_ready:
            self._all_ready.set()
        else:
            self._all_ready.clear()

    def _start(self, running: _Running) -> None:
        program = running.program
        logs = self.folder / "logs"
        self._trim(program.name)  # one that never gets ready (a site that is refused for weeks) writes a little at each start
        leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(signal.SIGKILL)), *program.command]
        with open(logs / f"{program.name}.log", "ab") as output:
            running.process = subprocess.Popen(
                leashed,
                cwd=program.folder,
                env={**os.environ, **OFFLINE, **program.environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.started, running.ready = time.monotonic(), False
        self.log.info("started", extra={"more": {"program": program.name, "pid": running.process.pid, "restarts": running.restarts}})
        self._note()

    def _ended(self, running: _Running, code: int) -> None:
        self._kill(running, signal.SIGKILL)  # what it has left in its group
        lived = time.monotonic() - running.started
        running.process, running.ready, running.in_turn = None, False, 0 if lived > STEADY_S else running.in_turn
        pauses = running.program.pauses_s
        pause = pauses[min(running.in_turn, len(pauses) - 1)]
        if running.program.pause_of is not None and (other := running.program.pause_of(code)) is not None:
            pause = other
        running.not_before = time.monotonic() + pause
        running.restarts += 1
        running.in_turn += 1
        self.log.warning("ended", extra={"more": {"program": running.program.name, "code": code, "lived_s": round(lived, 1), "again_in_s": pause}})
        self._note()

    def _ticking(self) -> None:
        while not self.stopping.wait(self.tick_s):
            if self.tick is None or not self._all_ready.is_set():
                continue
            try:
                self.tick()
            except Exception:
                self.log.exception("tick failed")

    def _kill(self, running: _Running, number: int) -> None:
        if running.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(running.process.pid, number)

    def _end_all(self) -> None:
        for running in reversed(self._running):
            self._kill(running, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        for running in reversed(self._running):
            if running.process is None:
                continue
            try:
                running.process.wait(timeout=max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.log.warning("killed, it did not end by itself", extra={"more": {"program": running.program.name}})
            self._kill(running, signal.SIGKILL)
            running.process.wait()

    def _end_leftovers(self) -> None:
        """End what carries this supervisor's mark or that of its predecessor in this folder."""
        marks = [self.mark]
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            marks.append(str(read_json(self.folder / "up.json")["mark"]))
        for _ in range(50):
            left = [process for mark in marks for process in marked(mark) if process != os.getpid()]
            if not left:
                return
            self.log.warning("ended leftovers", extra={"more": {"pids": left}})
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)

    def _sweep(self) -> None:
        """Remove temporary files that a killed predecessor left beside what it was writing; a command that writes just now keeps its own."""
        for place in (self.folder, self.folder / "secrets"):
            for path in place.glob(".*.part"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > 2.0:
                        path.unlink()

    def _note(self, *, first: bool = False) -> None:
        programs = {
            running.program.name: {
                "pid": None if running.process is None else running.process.pid,
                "ready": running.ready,
                "restarts": running.restarts,
            }
            for running in self._running
        }
        # A full disk must not end what can outlive it: the next change is noted again. At the start it is an error: the mark must be known.
        with contextlib.suppress(*(() if first else (OSError,))):
            write_json(self.folder / "up.json", {"pid": os.getpid(), "mark": self.mark, "programs": programs}, mode=0o600, durable=False)

    def _trim(self, name: str) -> None:
        path = self.folder / "logs" / f"{name}.log"
        with contextlib.suppress(OSError):
            if path.stat().st_size > LOG_BYTES:  # the program appends: after the cut it goes on at the start
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)
