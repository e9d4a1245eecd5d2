"""The dispatcher: the step that the supervisor takes about once a second to move the queue on.

A run keeps its identifier whatever happens to Flower's processes: each start is a new run for Flower and the same folder for us, and the
server app continues from the last checkpoint there.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from server import flower
from server.folder import ServerFolder
from server.queue import Entry, Queue
from server.runs.standing import read_standing
from shared_models.core.errors import FedILDError
from shared_models.core.locks import is_locked

ASK_S = 60.0
"""Seconds between two questions to Flower about a run whose server app is alive: each starts a program that imports for seconds."""
SETTLE_S = 3.0
"""Seconds between two looks after which a server app that does not hold its lock is taken for dead."""
START_S = 180.0
"""Seconds that Flower may take to start a server app."""
AGAIN_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses before an interrupted run is tried again by itself; the last one repeats."""
MOST_DEATHS = 10
"""A server app that dies so often without finishing a round would die again."""


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
