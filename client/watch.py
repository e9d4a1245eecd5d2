"""The inbox, watched: what has lain still for some seconds is prepared, what is still being copied is left until it lies still.

What belongs together is what lies in one folder of the inbox, at any depth; files in the inbox itself belong together too. Each round
prepares all that lies still (what was prepared before comes from the cache), archives too, and leaves out what `fedild site fetch` has not
brought whole, so that the cohort never holds half a study. `fedild site prepare --watch` runs it by hand; `fedild site up` runs it, as
``python -m client.watch FOLDER``, when the site TOML says ``watch = true``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from client.dicom.scan import list_files
from client.site import Site
from client.station import prepare_site, unfinished
from shared_models.core.errors import FedILDError
from shared_models.core.locks import is_locked
from shared_models.core.supervision import event_log, lock

log = logging.getLogger("fedild.inbox")

QUIET_S = 10.0
"""Seconds without a change after which a folder of the inbox is taken to be complete."""
LOOK_S = 2.0

Stamps = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change (ns) of files, by path."""


class Stopped(FedILDError):
    """The watch was told to end in the middle of a preparation; what was cached stays."""

    code = "E_STOPPED"


class Inbox:
    """Which folders of an inbox lie still.

    Parameters
    ----------
    folder : Path
        The inbox.
    quiet_s : float
        Seconds without a change.
    leave_out : Path, optional
        The site's workspace, when it lies inside.
    """

    def __init__(self, folder: Path, *, quiet_s: float = QUIET_S, leave_out: Path | None = None) -> None:
        self.folder, self.quiet_s, self.leave_out = folder, quiet_s, leave_out
        self._seen: dict[str, Stamps] = {}
        self._changed: dict[str, float] = {}
        self._still: set[str] = set()

    def group(self, path: str) -> str:
        """Return the name of the folder that `path` belongs to; empty for a file in the inbox itself."""
        first, _, rest = os.path.relpath(path, self.folder).partition(os.sep)
        return first if rest else ""

    def look(self, now: float) -> dict[str, Stamps]:
        """Look at every file and return what lies still at `now` (seconds of a monotonic clock), by folder."""
        found: dict[str, Stamps] = {}
        for path in list_files(self.folder, leave_out=self.leave_out):
            try:
                stat = Path(path).stat()
            except OSError:
                continue  # gone again, or a link that leads nowhere
            found.setdefault(self.group(path), {})[path] = (stat.st_size, stat.st_mtime_ns)
        for name, stamps in found.items():
            if self._seen.get(name) != stamps:
                self._changed[name] = now
        self._seen = found
        self._still = {name for name in found if now - self._changed[name] >= self.quiet_s}
        return {name: found[name] for name in self._still}

    def lies_still(self, path: str) -> bool:
        """Say whether a file belongs to what lay still at the last look."""
        return self.group(path) in self._still


def watch(
    folder: Path,
    experiment: str | None = None,
    *,
    stop: threading.Event,
    processes: int | None = None,
    quiet_s: float = QUIET_S,
    look_s: float = LOOK_S,
    prepare: Callable[..., Path] = prepare_site,
) -> None:
    """Prepare what comes to lie still in the inbox of a site folder, until `stop` is set.

    Whatever goes wrong with a preparation is written into the log, and the watch goes on: it tries again when something changes.

    Parameters
    ----------
    folder : Path
        The site folder.
    experiment : str, optional
        Whose ``[preparation]`` is wanted (see `prepare_site`).
    stop : Event
        Asked between two looks and between two series.
    processes : int, optional
        Of the preparation; default: one a core.
    quiet_s, look_s : float
        Seconds without a change; seconds between two looks.
    prepare : callable, optional
        Prepares.

    Raises
    ------
    BadInput
        Another watch runs here.
    """
    site = Site.load(folder / "site.toml")
    inbox = Inbox(site.path(site.site.inbox), quiet_s=quiet_s, leave_out=site.workspace)
    done: tuple[dict[str, Stamps], int, set[str]] = ({}, 0, set())

    def go_on(*_: object) -> None:
        if stop.is_set():
            raise Stopped("a preparation goes on after a restart")

    with lock(folder / "watch.lock", what="a watch of the inbox"):
        while not stop.is_set():
            clinical = site.path(site.site.clinical)
            still = (inbox.look(time.monotonic()), clinical.stat().st_mtime_ns if clinical.exists() else 0, unfinished(site.workspace))
            if still[0] and still != done and not is_locked(site.workspace / "queue.prepare.lock"):
                done = still
                try:
                    prepare(folder, experiment, processes=processes, only=inbox.lies_still, progress=go_on)
                    log.info("prepared %s folders", len(still[0]))
                except Stopped:
                    return
                except FedILDError as error:
                    log.warning("not prepared: %s, %s", error.code, error.rule)
                except Exception as error:
                    log.warning("not prepared: %s", type(error).__name__)
            stop.wait(look_s)


def main(arguments: list[str]) -> int:
    """Watch the inbox of the folder named in `arguments` until SIGTERM or SIGINT; return the exit code."""
    folder = Path(arguments[0]).resolve()
    os.umask(0o077)
    for handler in event_log(folder / "logs" / "prepare.log", "prepare").handlers:
        logging.getLogger("fedild").addHandler(handler)
    logging.getLogger("fedild").setLevel(logging.INFO)
    watch(folder, stop=stop_on_signal())
    return 0


def stop_on_signal() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
