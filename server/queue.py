"""The queue of runs in SQLite: commands put runs in and ask for changes, the dispatcher moves them on.

queued       waits its turn; one run at a time is on its way, so that no site is asked twice at once
running      a server app works on it, or is being started again after its process died
interrupted  too few sites; tried again by itself, with growing pauses, or at once with `resume`
stopped      by an operator; `resume` continues it
finished     its last round is done, its report is written
failed       would fail again the same way; the note says why
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared_models.core.errors import BadInput

State = Literal["queued", "running", "interrupted", "stopped", "finished", "failed"]


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
