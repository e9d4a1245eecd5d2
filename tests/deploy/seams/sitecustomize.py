"""Read at its start by every Python program of a deployment under test, which finds this folder on its path: does harm at a named place.

``FAULTS`` names a plan, ``{"kills": [...], "clocks": [...]}`` (see `tests/deploy/stage.py`). A kill is a SIGKILL of the very process that is
about to rename onto, open for writing, or remove a path: no poll from outside could hit that moment. Each kill happens once, whoever comes
first; a file beside the plan says so. A clock moves the time of day of the programs that work in a folder. Nothing of FedILD is imported.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import sys
import time

PLAN = os.environ.get("FAULTS", "")
WRITES = os.O_WRONLY | os.O_RDWR


def _path_of(event: str, arguments: tuple) -> str:
    """The path that an audit event is about to change; empty when it changes none."""
    if event == "os.rename":
        return os.fsdecode(arguments[1])
    if event == "shutil.rmtree":
        return os.fsdecode(arguments[0])
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike) and isinstance(arguments[2], int) and arguments[2] & WRITES:
        return os.fsdecode(arguments[0])
    return ""


class _Kills:
    """The plan's kills, read anew when the plan has changed."""

    def __init__(self) -> None:
        self.changed, self.kills, self.seen, self.busy = 0, [], {}, False

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in ("os.rename", "open", "shutil.rmtree") or self.busy or not (path := _path_of(event, arguments)):
            return
        self.busy = True
        try:
            self._look(event, path)
        except (OSError, ValueError):
            return
        finally:
            self.busy = False

    def _look(self, event: str, path: str) -> None:
        if (changed := os.stat(PLAN).st_mtime_ns) != self.changed:  # noqa: PTH116 - pathlib would be loaded into every program
            with open(PLAN, encoding="utf-8") as file:
                self.kills, self.seen, self.changed = json.load(file)["kills"], {}, changed
        for kill in self.kills:
            if kill["event"] == event and re.search(kill["path"], path):
                self.seen[kill["name"]] = self.seen.get(kill["name"], 0) + 1
                if self.seen[kill["name"]] == kill["count"]:
                    os.close(os.open(f"{PLAN}.{kill['name']}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    os.kill(os.getpid(), signal.SIGKILL)


def _move_clock(seconds: float) -> None:
    """Move `time.time` and what `datetime` calls now."""
    real, time_of_day, shift = datetime.datetime, time.time, datetime.timedelta(seconds=seconds)

    class _Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real)

    class Moved(real, metaclass=_Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + shift

    time.time = lambda: time_of_day() + seconds
    datetime.datetime = Moved


def _arm() -> None:
    with open(PLAN, encoding="utf-8") as file:
        clocks = json.load(file)["clocks"]
    for clock in clocks:
        if os.getcwd().startswith(clock["folder"]):  # noqa: PTH109
            _move_clock(clock["seconds"])
    sys.addaudithook(_Kills())


if PLAN:
    _arm()
