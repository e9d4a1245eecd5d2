"""The audit log: JSON lines, each carrying the SHA-256 of the one before, so that an edited, deleted or inserted line is found.

It says what happened, when, to which run and under which code; never a path, a patient or a text of an exception. The last line's number and
hash are kept in a file of their own among the secrets, so that lines cut off the end are missed too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import canonical_json, sha256, write_json

EVENTS: dict[str, tuple[str, ...]] = {
    "made": ("fingerprint",),
    "joined": ("fingerprint", "consortium"),
    "rotated": ("fingerprint",),
    "up": ("code",),
    "down": (),
    "asked": ("run", "round", "kind", "digest"),
    "released": ("run", "round", "bytes", "keys", "num_cases"),
    "refused": ("run", "round", "kind", "reason"),
    "pending": ("digest", "name"),
    "approved": ("digest", "name", "kind", "counter"),
    "rejected": ("digest", "name", "kind", "counter"),
    "revoked": ("digest", "name", "kind", "counter"),
    "app refused": ("digest", "reason"),
    "charged": ("counter",),
    "loss accepted": ("counter",),
    "peer": ("name", "digest"),
    "peer forgotten": ("name", "digest"),
    "prepared": ("accepted", "skipped", "quarantined"),
    "repaired": (),
}
"""Every kind of event and the fields that it may have. A field is a whole number or one plain word: nothing else is ever written."""

START = "0" * 64
_WORD = re.compile(r"[A-Za-z0-9_.-]{0,128}")


class AuditLog:
    """The audit log of a site folder; several programs may write to it.

    Parameters
    ----------
    folder : Path
        The site folder: ``audit.jsonl`` (0600) and ``secrets/audit.head`` are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.jsonl"
        self.head = folder / "secrets" / "audit.head"

    def note(self, event: str, **fields: str | int) -> None:
        """Append one event, on disk when this returns.

        Raises
        ------
        BadInput
            No such event, a field that it does not have, or a value that is more than a plain word.
        """
        if event not in EVENTS or not set(fields) <= set(EVENTS[event]):
            raise BadInput("an audit event has only the fields of its kind", value=(event, sorted(fields)))
        for name, value in fields.items():
            if not (isinstance(value, int) or (isinstance(value, str) and _WORD.fullmatch(value))):
                raise BadInput("a field of the audit log is a whole number or one plain word", value=name)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            last = self._last(file)
            if self._cut_torn_line(file):
                last = self._write(file, last, "repaired", {})
            self._write(file, last, event, fields)

    def verify(self) -> int:
        """Return the number of lines, all of them whole and in place.

        Raises
        ------
        Refused
            E_AUDIT, naming the first line that is not.
        """
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        head = self._read_head()
        previous = START
        for number, line in enumerate(lines, start=1):
            entry = _read(line)
            if entry is None or entry.get("number") != number or entry.get("previous") != previous:
                raise _broken(number, "it was edited, or lines before it were deleted or inserted")
            previous = sha256(line)
            if number == head["number"] and previous != head["hash"]:
                raise _broken(number, "it is not the line that was written")
        if len(lines) < head["number"]:
            raise _broken(len(lines) + 1, f"lines up to {head['number']} are missing at the end")
        return len(lines)

    def entries(self) -> list[dict[str, Any]]:
        """Return all events as written, without checking them."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        return [entry for entry in map(_read, lines) if entry is not None]

    def _write(self, file: Any, last: tuple[int, str], event: str, fields: dict[str, str | int]) -> tuple[int, str]:
        number, previous = last
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = canonical_json({"number": number + 1, "time": stamp, "event": event, **fields, "previous": previous}).encode()
        file.seek(0, os.SEEK_END)
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
        write_json(self.head, {"number": number + 1, "hash": sha256(line)}, mode=0o600, durable=False)
        return number + 1, sha256(line)

    def _last(self, file: Any) -> tuple[int, str]:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8192))
        whole = file.read().rpartition(b"\n")[0]
        entry = _read(line := whole.rpartition(b"\n")[2]) if whole else None
        head = self._read_head()
        if entry is not None and entry["number"] > head["number"]:  # a crash came between line and head
            return int(entry["number"]), sha256(line)
        return head["number"], head["hash"]  # if the last line was changed or cut off since, the gap stays visible

    def _cut_torn_line(self, file: Any) -> bool:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8192))
        tail = file.read().rpartition(b"\n")[2]
        if tail:
            file.truncate(size - len(tail))
        return bool(tail)

    def _read_head(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            head = json.loads(self.head.read_bytes())
            return {"number": int(head["number"]), "hash": str(head["hash"])}
        return {"number": 0, "hash": START}


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("number"), int) else None


def _broken(number: int, how: str) -> Refused:
    return Refused(
        f"every line of the audit log must stand as it was written; line {number}: {how}",
        remedy="keep the file as evidence and find out who changed it",
        code="E_AUDIT",
    )
