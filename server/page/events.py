"""The tail of the server's own logs, as codes: which event, of which run or program, with which fixed word. No text of an error, no path."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LOGS = ("runs", "up")
TAIL_BYTES = 64 << 10
SHOWN = {"run": "run", "program": "program", "status": "status", "code": "code", "deaths": "deaths", "round": "round", "restarts": "restarts"}
"""Fields that are shown, each when it is a whole number or one plain word."""
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOTE = re.compile(r"E_[A-Z0-9_]{1,40}")
NOTES = ("starting again", "starting", "stopped by an operator")
"""Beginnings of notes of the queue that are shown as they are."""


def log_tail(folder: Path, most: int = 40, *, run: str | None = None) -> list[dict[str, str]]:
    """Return the last events of a server folder, newest first; with `run` those of that run alone."""
    found: list[dict[str, str]] = []
    for name in LOGS:
        for line in _tail(folder / "logs" / f"{name}.log"):
            if run is None or line.get("run") == run:
                words = [f"{label} {line[key]}" for key, label in SHOWN.items() if key in line and is_plain(line[key]) and str(line[key]) != run]
                found.append({"time": _plain(line.get("time")), "level": _plain(line.get("level")), "event": _event(line), "more": ", ".join(words)})
    found.sort(key=lambda one: one["time"], reverse=True)
    return found[:most]


def is_plain(value: Any) -> bool:
    """Say whether a value is a whole number or one plain word."""
    return isinstance(value, int) or (isinstance(value, str) and _WORD.fullmatch(value) is not None)


def note_code(note: str) -> str:
    """Return what may be shown of the note of a run: its code or its fixed words, never the rest.

    Examples
    --------
    >>> note_code("E_QUORUM a round needs 3 valid updates"), note_code("starting again: gone"), note_code("No such file: '/srv/x'")
    ('E_QUORUM', 'starting again', '')
    """
    if (found := _NOTE.match(note)) is not None:
        return found[0]
    return next((words for words in NOTES if note.startswith(words)), "")


def _tail(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            blocks = file.read().splitlines()[1 if size > TAIL_BYTES else 0 :]
    except OSError:
        return []
    lines = []
    for block in blocks:
        try:
            line = json.loads(block)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _event(line: dict[str, Any]) -> str:
    event = str(line.get("event", ""))
    return event if re.fullmatch(r"[A-Za-z, ]{1,60}", event) else "event"


def _plain(value: Any) -> str:
    return str(value) if is_plain(value) else ""
