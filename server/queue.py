"""The queue of runs in SQLite, and the step that the supervisor takes about once a second to move it on.

    queued       waits its turn; one run at a time is on its way, so that no site is asked twice at once
    running      a server app works on it, or is being started again after its process died
    interrupted  too few sites; tried again by itself, with growing pauses, or at once with `resume`
    stopped      by an operator; `resume` continues it
    finished     its last round is done, its report is written
    failed       would fail again the same way; the note says why

A run keeps its identifier whatever happens to Flower's processes: each start is a new run for Flower and the same folder for us, and the
server app continues from the last checkpoint there.
"""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from server import flower
from server.folder import ServerFolder
from server.runs.standing import read_standing
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.supervision import is_locked

State = Literal["queued", "running", "interrupted", "stopped", "finished", "failed"]
ASK_S = 20.0
"""Seconds between two questions to Flower about a run whose server app is alive."""
SETTLE_S = 3.0
"""Seconds between two looks after which a server app that does not hold its lock is taken for dead."""
START_S = 180.0
"""Seconds that Flower may take to start a server app."""
AGAIN_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses before an interrupted run is tried again by itself; the last one repeats."""
MOST_DEATHS = 10
"""A server app that dies so often without finishing a round would die again."""


@dataclass
class Entry:
    """A run in the queue. `wanted` is what an operator asked for and the supervisor has not done yet: ``stop`` or nothing."""

    run: str
    experiment: str
    sites: list[str]
    state: State = "queued"
    wanted: str = ""
    flower_run: str = ""
    deaths: int = 0
    tries: int = 0
    round: int = 0
    note: str = ""
    created: float = 0.0
    changed: float = 0.0
    not_before: float = 0.0


_COLUMNS = (
    *("run", "experiment", "sites", "state", "wanted", "flower_run", "deaths", "tries"),
    *("round", "note", "created", "changed", "not_before"),
)
_TYPES = {"deaths": "INTEGER", "tries": "INTEGER", "round": "INTEGER", "created": "REAL", "changed": "REAL", "not_before": "REAL"}


class Queue:
    """The table of runs. Commands and the supervisor open it side by side; each change is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        columns = ", ".join(f"{name} {_TYPES.get(name, 'TEXT')} NOT NULL" for name in _COLUMNS)
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"CREATE TABLE IF NOT EXISTS runs ({columns}, PRIMARY KEY (run))")
        path.chmod(0o600)

    def add(self, entry: Entry) -> None:
        """Put a new run at the end."""
        now = time.time()
        entry.created = entry.changed = now
        with self._open() as database:
            database.execute(f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})", _row(entry))  # noqa: S608

    def all(self) -> list[Entry]:
        """Return all runs, oldest first."""
        with self._open() as database:
            return [_entry(row) for row in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs ORDER BY created, run")]  # noqa: S608

    def get(self, run: str) -> Entry:
        """Return a run.

        Raises
        ------
        BadInput
            No such run.
        """
        for entry in self.all():
            if entry.run == run:
                return entry
        raise BadInput("no such run on this server", value=run, remedy="`fedild server runs` lists them")

    def change(self, run: str, **values: str | int | float) -> None:
        """Set columns of a run in one transaction."""
        values["changed"] = time.time()
        setting = ", ".join(f"{name} = ?" for name in values if name in _COLUMNS)
        with self._open() as database:
            database.execute(f"UPDATE runs SET {setting} WHERE run = ?", [*values.values(), run])  # noqa: S608

    def stop(self, run: str) -> None:
        """Ask that a run be stopped.

        Raises
        ------
        BadInput
            No such run, or one that is over.
        """
        entry = self.get(run)
        if entry.state in ("queued", "interrupted"):
            self.change(run, state="stopped", note="stopped by an operator")
        elif entry.state == "running":
            self.change(run, wanted="stop")
        else:
            raise BadInput("a run that is on its way can be stopped", value=entry.state)

    def resume(self, run: str) -> None:
        """Put a run that is not over back into the queue, to be continued at once when it is its turn.

        Raises
        ------
        BadInput
            No such run, or one that is finished or on its way.
        """
        entry = self.get(run)
        if entry.state not in ("interrupted", "stopped", "failed"):
            raise BadInput("a run is resumed when it was interrupted, stopped or has failed", value=entry.state)
        self.change(run, state="queued", wanted="", note="", deaths=0, tries=0, not_before=0.0, flower_run="")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=30.0)
        try:
            with database:
                yield database
        finally:
            database.close()


def _row(entry: Entry) -> list[str | int | float]:
    return [",".join(entry.sites) if name == "sites" else getattr(entry, name) for name in _COLUMNS]


def _entry(row: tuple) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["sites"] = [name for name in values["sites"].split(",") if name]
    return Entry(**values)


@dataclass
class Flower:
    """The three things that a dispatcher needs of Flower; tests put others in their place."""

    start: Callable[[ServerFolder, Path], int] = flower.start_run
    status: Callable[[ServerFolder, int], tuple[str, str]] = flower.run_status
    stop: Callable[[ServerFolder, int], None] = flower.stop_run


@dataclass
class Dispatcher:
    """Starts the next run, watches the one on its way, starts it again when its process died.

    Parameters
    ----------
    server : ServerFolder
        Whose queue it is.
    finish : callable
        Called with the run folder of a run that has finished: writes report and bundle.
    """

    server: ServerFolder
    queue: Queue
    finish: Callable[[Path], None]
    log: logging.Logger
    flower: Flower = field(default_factory=Flower)
    clock: Callable[[], float] = time.time
    _asked: float = 0.0
    _unheld: float = 0.0

    def step(self) -> None:
        """Move the queue on by at most one action. Safe to be interrupted anywhere: all it knows is in the queue and the run folders."""
        entries = self.queue.all()
        running = next((entry for entry in entries if entry.state == "running"), None)
        if running is not None:
            self._watch(running)
            return
        now = self.clock()
        due = [e for e in entries if e.state == "queued" or (e.state == "interrupted" and now >= e.not_before)]
        if due:
            self._start(min(due, key=lambda e: (e.state != "queued", e.created)))

    def _start(self, entry: Entry) -> None:
        self.queue.change(entry.run, state="running", flower_run="", note="starting", not_before=0.0)
        entry.not_before = 0.0
        self._launch(entry)

    def _launch(self, entry: Entry) -> None:
        if self.clock() < entry.not_before:
            return
        try:
            number = self.flower.start(self.server, self.server.run_folder(entry.run) / "app")
        except flower.FlowerFailed as error:
            pause = AGAIN_S[min(entry.tries, len(AGAIN_S) - 1)]
            self.queue.change(entry.run, note=str(error)[-300:], tries=entry.tries + 1, not_before=self.clock() + pause)
            raise
        self._asked, self._unheld = self.clock(), 0.0
        self.queue.change(entry.run, flower_run=str(number), note="")
        self.log.info("run started", extra={"more": {"run": entry.run, "flower_run": str(number), "deaths": entry.deaths}})

    def _watch(self, entry: Entry) -> None:
        folder = self.server.run_folder(entry.run)
        standing = read_standing(folder)
        if entry.wanted == "stop":
            self._stop(entry)
            return
        if not entry.flower_run:  # it died, or we did between the two halves of a start
            self._launch(entry)
            return
        begun = entry.flower_run in standing.get("flower_run_ids", [])
        held = is_locked(folder / "run.lock")
        now = self.clock()
        if begun and not held and standing["status"] != "running":
            self._over(entry, standing)
        elif begun and not held:
            # The server app is gone without a word. Flower would notice after a minute; the lock says so at once.
            self._unheld = self._unheld or now
            if now - self._unheld >= SETTLE_S:
                self._died(entry, "the server app's process ended", standing)
        elif now - self._asked >= (ASK_S if begun else min(ASK_S, 5.0)):
            self._asked, self._unheld = now, 0.0
            status, details = self.flower.status(self.server, int(entry.flower_run))
            if status.startswith(flower.FINISHED) and not is_locked(folder / "run.lock"):
                after = read_standing(folder)
                if entry.flower_run in after.get("flower_run_ids", []) and after["status"] != "running":
                    self._over(entry, after)
                else:
                    self._died(entry, f"Flower says {status} {details}".strip(), after)
            elif not begun and now - entry.changed > START_S:
                self._died(entry, f"Flower did not start the server app ({status})", standing)
        else:
            self._unheld = 0.0

    def _over(self, entry: Entry, standing: dict) -> None:
        status = standing["status"]
        self.log.info("run ended", extra={"more": {"run": entry.run, "status": status, "code": standing.get("code", "")}})
        if status == "finished":
            note = ""
            try:
                self.finish(self.server.run_folder(entry.run))
            except (FedILDError, OSError, subprocess.SubprocessError) as error:  # the model is there; `resume` writes the report again
                note = f"E_REPORT {error}"[:300]
            self.queue.change(entry.run, state="failed" if note else "finished", note=note, round=standing.get("round", 0))
            return
        note = " ".join(filter(None, (standing.get("code", ""), standing.get("reason", ""))))
        if status == "failed":
            self.queue.change(entry.run, state="failed", note=note)
            return
        went_on = standing.get("round", 0) > entry.round
        tries = 0 if went_on else entry.tries
        pause = AGAIN_S[min(tries, len(AGAIN_S) - 1)]
        self.queue.change(entry.run, state="interrupted", note=note, tries=tries + 1, round=standing.get("round", 0), not_before=self.clock() + pause)

    def _died(self, entry: Entry, why: str, standing: dict) -> None:
        went_on = standing.get("round", 0) > entry.round
        deaths = 1 if went_on else entry.deaths + 1
        self.log.warning("run died", extra={"more": {"run": entry.run, "why": why, "deaths": deaths, "round": standing.get("round", 0)}})
        with suppress(flower.FlowerFailed):  # it may be over for Flower too
            self.flower.stop(self.server, int(entry.flower_run))
        if deaths > MOST_DEATHS:
            self.queue.change(entry.run, state="failed", note=f"E_DIES {why}", deaths=deaths)
            return
        self.queue.change(entry.run, flower_run="", deaths=deaths, round=standing.get("round", 0), note=f"starting again: {why}")

    def _stop(self, entry: Entry) -> None:
        if entry.flower_run:
            try:
                self.flower.stop(self.server, int(entry.flower_run))
            except flower.FlowerFailed as error:
                self.log.info("stop", extra={"more": {"run": entry.run, "flower": str(error)}})
        self.queue.change(entry.run, state="stopped", wanted="", note="stopped by an operator")
