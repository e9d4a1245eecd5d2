"""The file of the ledger: an SQLite database in which lines can be added and never changed. What the lines mean is the ledger's business."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_models.core.errors import Refused

_TABLES = """
CREATE TABLE IF NOT EXISTS entries (counter INTEGER PRIMARY KEY, line BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cohorts (digest TEXT PRIMARY KEY, naming TEXT NOT NULL, names TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER IF NOT EXISTS entries_remain BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS cohorts_stay BEFORE UPDATE ON cohorts BEGIN SELECT RAISE(ABORT, 'cohorts are never changed'); END;
CREATE TRIGGER IF NOT EXISTS cohorts_remain BEFORE DELETE ON cohorts BEGIN SELECT RAISE(ABORT, 'cohorts are never deleted'); END;
"""


class Entries:
    """Lines by number, and cohorts by digest. The file is made by the first line, 0600.

    Parameters
    ----------
    path : Path
        ``ledger.db``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: sqlite3.Connection | None = None
        self._cohorts: dict[str, tuple[str, frozenset[str]]] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file: what is read, judged and written inside is one transaction. Nothing stays of one that fails."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._connected() as database:
            database.executescript(_TABLES)
            database.execute("BEGIN IMMEDIATE")
            self._open = database
            try:
                yield
            except BaseException:
                database.rollback()
                raise
            else:
                database.commit()
            finally:
                self._open = None

    def lines(self) -> list[tuple[int, bytes]]:
        """Return all lines with their numbers, in order; none when there is no file.

        Raises
        ------
        Refused
            E_LEDGER: the file is damaged.
        """
        if self._open is None and not self.path.exists():
            return []
        with self._connected() as database:
            rows = _rows(database, "SELECT counter, line FROM entries ORDER BY counter")
            return [(int(counter), line if isinstance(line, bytes) else str(line).encode()) for counter, line in rows]

    def append(self, counter: int, line: bytes) -> None:
        """Add a line; it is on disk when this returns. Inside `locked`."""
        with self._connected() as database:
            database.execute("INSERT INTO entries VALUES (?, ?)", (counter, line))
            database.commit()
            database.execute("BEGIN IMMEDIATE")

    def enrol(self, digest: str, naming: str, names: list[str]) -> None:
        """Remember who belongs to a cohort. Inside `locked`, before the line that names it."""
        with self._connected() as database:
            database.execute("INSERT OR IGNORE INTO cohorts VALUES (?, ?, ?)", (digest, naming, json.dumps(names)))
        self._cohorts = {}

    def cohorts(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Return naming and members of every cohort by its digest."""
        if self._open is None and not self.path.exists():
            return {}
        with self._connected() as database:
            count = _rows(database, "SELECT count(*) FROM cohorts")
            if count != [(len(self._cohorts),)]:
                rows = _rows(database, "SELECT digest, naming, names FROM cohorts")
                self._cohorts = {digest: (naming, frozenset(json.loads(names))) for digest, naming, names in rows}
        return self._cohorts

    def members(self, digest: str) -> tuple[str, frozenset[str]]:
        """Return naming and members of a cohort; nobody for one that is not known."""
        return self.cohorts().get(digest, ("", frozenset()))

    def put_aside(self) -> None:
        """Rename the file to ``ledger.db.lost``, with whatever SQLite left beside it; one that was put aside before goes."""
        for ending in ("", "-wal", "-shm"):
            path = self.path.with_name(self.path.name + ending)
            if path.exists():
                path.replace(path.with_name(f"{self.path.name}.lost{ending}"))
        self._cohorts = {}

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._open is not None:
            yield self._open
            return
        database = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            yield database
        except sqlite3.DatabaseError as error:
            raise _damaged(error) from None
        finally:
            database.close()


def _rows(database: sqlite3.Connection, query: str) -> list[tuple]:
    try:
        return database.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []  # killed between making the file and its tables
        raise


def _damaged(error: Exception) -> Refused:
    return Refused(
        "the ledger's file must be readable",
        value=type(error).__name__,
        remedy="restore ledger.db and secrets/ledger.last from the newest backup, or `fedild site ledger accept-loss`",
        code="E_LEDGER",
    )
