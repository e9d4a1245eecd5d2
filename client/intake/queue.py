"""The queue of a site's work: what waits, what is worked on, what is done, what failed and why. It outlives every restart.

A row is a keyed name (`client.cases.identity.Pseudonyms.item`) under a kind of work; never a patient's number, a UID or a path. Whoever does
a kind of work holds its lock; rows that a killed one left ``working`` wait again, and after `MAX_ATTEMPTS` they have failed: what takes its
process down each time must not do so for ever.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from shared_models.core.errors import BadInput
from shared_models.core.locks import lock

State = Literal["waiting", "working", "done", "failed"]
STATES: tuple[State, ...] = ("waiting", "working", "done", "failed")
KINDS: dict[str, str] = {
    "find": "a patient, study or accession number to ask the PACS for",
    "fetch": "a study to retrieve from the PACS",
    "unpack": "an archive in the inbox",
    "prepare": "a series",
}
"""Kinds of work, and what an item of each is."""
MAX_ATTEMPTS = 3
BUSY_S = 30.0
"""Seconds to wait for another process's transaction."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    kind TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, stamp TEXT NOT NULL,
    changed_s REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Item:
    """One piece of work. `stamp` says of which content the state is: other content is other work.

    `attempts` counts how often it was begun, `reason` is a fixed word: why it failed, or why it was set aside when all is done.
    """

    kind: str
    name: str
    state: State
    attempts: int
    reason: str
    stamp: str
    changed_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the time in UTC."""
        return asdict(self) | {"changed_s": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.changed_s))}


class Queue:
    """The queue of the workspace `folder`, in ``queue.sqlite`` (0600, write-ahead log).

    Examples
    --------
    >>> import tempfile
    >>> queue = Queue(Path(tempfile.mkdtemp()))
    >>> queue.add("fetch", {"3f2a": ""})
    1
    >>> queue.begin("fetch", "3f2a")
    >>> queue.end("fetch", "3f2a", state="failed", reason="NOT_FOUND")
    >>> queue.counts()["fetch"]["failed"], queue.retry()
    (1, 1)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "queue.sqlite"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.path.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        # one connection for long: closing the last one folds the log into the file, which costs some flushes of the disk
        self._database = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._turn = threading.Lock()
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(SCHEMA)

    @contextlib.contextmanager
    def work(self, kind: str, *, wait_s: float = 0.0) -> Iterator[None]:
        """Be the one who does this kind of work for the body; what a killed one left is waiting again, or has failed for good.

        Raises
        ------
        BadInput
            Another process does this kind of work here.
        """
        with lock(self.folder / f"queue.{_known(kind)}.lock", what=f"work of the kind {kind}", wait_s=wait_s):
            with self._open() as database:
                left = "kind = ? AND state = 'working'"
                database.execute(f"UPDATE item SET state = 'failed', reason = 'FAILED' WHERE {left} AND attempts >= ?", (kind, MAX_ATTEMPTS))  # noqa: S608
                database.execute(f"UPDATE item SET state = 'waiting' WHERE {left}", (kind,))  # noqa: S608
            yield

    def add(self, kind: str, items: dict[str, str]) -> int:
        """Let items (name to stamp) wait, and return how many of them wait now; what is done or failed under the same stamp stays so."""
        with self._open() as database:
            for name, stamp in items.items():
                database.execute(
                    "INSERT INTO item VALUES (?, ?, 'waiting', 0, '', ?, ?) ON CONFLICT (kind, name) DO UPDATE SET"
                    " state = 'waiting', attempts = 0, reason = '', stamp = excluded.stamp, changed_s = excluded.changed_s"
                    " WHERE stamp != excluded.stamp",
                    (_known(kind), name, stamp, time.time()),
                )
        waiting = {item.name for item in self.items(kind, "waiting")}
        return len(waiting & items.keys())

    def begin(self, kind: str, name: str) -> None:
        """Note that an item is worked on."""
        self._set("state = 'working', attempts = attempts + 1, reason = ''", (), kind, name)

    def end(self, kind: str, name: str, *, state: State, reason: str = "") -> None:
        """Note what became of an item."""
        self._set("state = ?, reason = ?", (state, reason), kind, name)

    def forget(self, kind: str, names: Iterable[str]) -> None:
        """Drop items: what they stood for is no longer there."""
        with self._open() as database:
            database.executemany("DELETE FROM item WHERE kind = ? AND name = ?", [(kind, name) for name in names])

    def retry(self, names: Iterable[str] | None = None) -> int:
        """Let failed items (all, or those whose name begins with one of `names`) wait anew; return how many.

        Raises
        ------
        BadInput
            A name fits no failed item.
        """
        failed = self.items(state="failed")
        wanted = failed if names is None else [item for item in failed if item.name.startswith(tuple(names))]
        for name in names or ():
            if not any(item.name.startswith(name) for item in wanted):
                raise BadInput("only what failed can be tried again", value=name, remedy="`fedild site queue --state failed` lists it")
        for item in wanted:
            self._set("state = 'waiting', attempts = 0, reason = ''", (), item.kind, item.name)
        return len(wanted)

    def items(self, kind: str | None = None, state: str | None = None) -> list[Item]:
        """Return the items of a kind and in a state (by default of all), by kind and name."""
        asked = {"kind": kind, "state": state}
        where = [f"{column} = ?" for column, value in asked.items() if value is not None]
        text = "SELECT kind, name, state, attempts, reason, stamp, changed_s FROM item" + (f" WHERE {' AND '.join(where)}" if where else "")  # noqa: S608
        with self._open() as database:
            return [Item(*row) for row in database.execute(text + " ORDER BY kind, name", [v for v in asked.values() if v is not None])]

    def counts(self) -> dict[str, dict[State, int]]:
        """Return the number of items by kind and state."""
        found: dict[str, dict[State, int]] = {kind: dict.fromkeys(STATES, 0) for kind in KINDS}
        for item in self.items():
            found[item.kind][item.state] += 1
        return found

    def _set(self, change: str, values: tuple[str, ...], kind: str, name: str) -> None:
        with self._open() as database:
            text = f"UPDATE item SET {change}, changed_s = ? WHERE kind = ? AND name = ?"  # noqa: S608
            database.execute(text, (*values, time.time(), _known(kind), name))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            self._database.execute("BEGIN IMMEDIATE")
            with self._database:  # commits, or rolls back
                yield self._database


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise BadInput("the queue knows the kinds of its table", value=kind)
    return kind
