"""What a server that runs for months needs once a day or after a run: warnings of certificates that expire, and what is over swept out.

Flower unpacks the app of every run into ``flwr/apps`` and never takes it away. It unpacks it anew at each start, so the folder of a run that
is not on its way is of no use to anybody.
"""

from __future__ import annotations

import logging
import shutil
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.folder import ServerFolder
from server.identity import expiry_warnings
from server.queue import Queue

WARN_EVERY_S = 86400.0
SWEEP_EVERY_S = 60.0
NEEDED = ("queued", "running", "interrupted")
"""States of runs whose unpacked app stays: it may be started at any moment."""


@dataclass
class Caretaker:
    """Called by the supervisor's tick; does little, and each thing only when it is due."""

    server: ServerFolder
    queue: Queue
    log: logging.Logger
    clock: Callable[[], float] = time.monotonic
    _due: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        """Warn and sweep if it is time."""
        if self._is_due("warn", WARN_EVERY_S):
            for sentence in expiry_warnings(self.server.secrets):
                self.log.warning("certificate", extra={"more": {"warning": sentence}})
        if self._is_due("sweep", SWEEP_EVERY_S):
            needed = {entry.run for entry in self.queue.all() if entry.state in NEEDED}
            if swept := sweep_apps(self.server.flower_home / "apps", needed=needed):
                self.log.info("swept", extra={"more": {"apps": swept}})

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self.clock()
        if now < self._due.get(what, now):
            return False
        self._due[what] = now + every_s
        return True


def sweep_apps(apps: Path, *, needed: set[str]) -> int:
    """Remove the unpacked apps of all runs but the `needed` ones and return how many.

    An app that cannot be read, or that is none of ours, is left alone.
    """
    swept = 0
    for folder in sorted(apps.glob("*.fedild-run.*")):
        try:
            run = str(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]["run"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if run not in needed:
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
    return swept
