"""Studies fetched from the PACS: asked for, listed, brought one by one, and taken up again where it stopped.

The queue knows each request and each study by a keyed name. Which number that is stands in ``wanted.csv`` of the workspace (0600), like
``items.csv``: it never leaves the site.
"""

from __future__ import annotations

import csv
import errno
import io
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from client.cases.identity import Pseudonyms, site_secret
from client.intake.landing import Landing
from client.intake.pacs import KEYWORDS, Archive, PacsFailed, What, exact
from client.intake.queue import Queue
from client.intake.settings import Pacs, Receiver
from client.site import Site
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic

log = logging.getLogger("fedild.fetch")

PAUSES_S = (1.0, 5.0, 20.0)
"""Pauses before a PACS that does not answer is asked again; then the item has failed until `Queue.retry`."""


@dataclass
class Fetch:
    """What a site wants from its PACS, and the bringing of it.

    Parameters
    ----------
    site : Site
        With ``[pacs]``.
    pauses_s : sequence of float
        Before a PACS that does not answer is asked again.
    stop : Event
        Asked between two images; what is done stays.

    Raises
    ------
    BadInput
        The site TOML has no ``[pacs]``.
    """

    site: Site
    pauses_s: tuple[float, ...] = PAUSES_S
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.site.pacs is None:
            raise BadInput("the site TOML has no [pacs]", remedy="add [pacs] with url, or address and title")
        self.pacs = self.site.pacs
        self.queue = Queue(self.site.workspace)
        self.names = Pseudonyms(site_secret(self.site.workspace))
        self.landing = Landing(self.site.path(self.site.site.inbox), self.names)

    @property
    def path(self) -> Path:
        """``wanted.csv``: which item is which number."""
        return self.site.workspace / "wanted.csv"

    def ask(self, wanted: Iterable[tuple[What, str]]) -> int:
        """Add requests by patient, study or accession number; return how many wait now.

        Raises
        ------
        BadInput
            A number with a wildcard in it.
        """
        items: dict[str, tuple[What, str]] = {self.names.item("find", what, exact(value)): (what, exact(value)) for what, value in wanted}
        self._note(items)
        return self.queue.add("find", dict.fromkeys(items, ""))

    def run(self, progress: Callable[[int, int], None] = lambda done, wanted: None) -> dict[str, int]:
        """Work off what waits: find studies, then bring them; return how many studies are done, and how many items failed.

        `progress` is told of images brought and images wanted so far.

        Raises
        ------
        BadInput
            Another fetch runs here.
        """
        count = [0, 0]

        def brought() -> None:
            count[0] += 1
            progress(count[0], max(count))
            if self.stop.is_set():
                raise KeyboardInterrupt

        with self.queue.work("fetch"), self.queue.work("find"):
            for kind, work in (("find", self._find), ("fetch", self._bring)):
                waiting, listed = self.queue.items(kind, "waiting"), self._noted()
                for item in waiting:
                    if item.name in listed:
                        self._one(kind, item.name, partial(work, *listed[item.name], count, brought))
                    else:  # the private list was lost: nobody knows what this was
                        self.queue.end(kind, item.name, state="failed", reason="FAILED")
        found = self.queue.counts()
        return {"done": found["fetch"]["done"], "failed": found["fetch"]["failed"] + found["find"]["failed"]}

    def _one(self, kind: str, name: str, work: Callable[[Archive], None]) -> None:
        for pause_s in (*self.pauses_s, None):
            self.queue.begin(kind, name)
            try:
                with connect(self.pacs, self.site.receiver, self.landing, self.site.folder) as archive:
                    work(archive)
            except PacsFailed as error:
                reason = error.reason
            except OSError as error:
                reason = "NO_ROOM" if error.errno == errno.ENOSPC else "UNREACHABLE"
            except KeyboardInterrupt:
                self.queue.end(kind, name, state="waiting")
                raise
            else:
                self.queue.end(kind, name, state="done")
                return
            log.warning("item %s: %s", name, reason)
            if reason not in ("UNREACHABLE", "INCOMPLETE") or pause_s is None or self.stop.wait(pause_s):
                self.queue.end(kind, name, state="failed", reason=reason)
                return

    def _find(self, what: What, value: str, count: list[int], brought: Callable[[], None], archive: Archive) -> None:
        del count, brought
        studies = archive.find(what, value)
        if not studies:
            raise PacsFailed("NOT_FOUND")
        items: dict[str, tuple[What, str]] = {self.names.item("study", uid): ("study", uid) for uid in studies}
        self._note(items)
        self.queue.add("fetch", dict.fromkeys(items, ""))

    def _bring(self, what: What, study: str, count: list[int], brought: Callable[[], None], archive: Archive) -> None:
        del what
        images = archive.images(study)
        if not any(images.values()):
            raise PacsFailed("NO_CT")
        missing = self._missing(study, images)
        count[1] += sum(map(len, missing.values()))
        if missing:
            archive.fetch(study, missing, self.landing, brought)
        if self._missing(study, images):
            raise PacsFailed("INCOMPLETE")

    def _missing(self, study: str, images: dict[str, list[str]]) -> dict[str, list[str]]:
        left = {series: [image for image in some if not self.landing.place(study, image).exists()] for series, some in images.items()}
        return {series: some for series, some in left.items() if some}

    def _noted(self) -> dict[str, tuple[What, str]]:
        if not self.path.exists():
            return {}
        with open(self.path, newline="", encoding="utf-8") as file:
            return {row["item"]: (next(what for what in KEYWORDS if what == row["what"]), row["value"]) for row in csv.DictReader(file)}

    def _note(self, items: dict[str, tuple[What, str]]) -> None:
        rows = self._noted() | items
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("item", "what", "value"))
        writer.writerows((item, what, value) for item, (what, value) in sorted(rows.items()))
        write_atomic(self.path, text.getvalue().encode(), mode=0o600)


def connect(pacs: Pacs, receiver: Receiver | None, landing: Landing, folder: Path) -> AbstractContextManager[Archive]:
    """Return a connection to the site's PACS, over DICOMweb or DIMSE as ``[pacs]`` says.

    Raises
    ------
    BadInput
        The settings do not fit each other.
    PacsFailed
        It cannot be reached, or refuses.
    """
    if pacs.url is not None:
        from client.intake.web import Web

        return Web(pacs, folder)
    from client.intake.dimse import Dimse

    return Dimse(pacs, receiver, landing, folder)


def read_list(path: Path) -> list[str]:
    """Return the accession numbers of a CSV: its column ``accession``, or its only column, with or without a heading.

    Raises
    ------
    BadInput
        There are several columns and none of that name, or a row without a number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("the list must be a CSV in UTF-8", value=type(error).__name__) from None
    heading = [cell.strip().casefold() for cell in rows[0]] if rows else []
    names = ("accession", "accessionnumber", "accession_number", "accession number")
    column = next((heading.index(name) for name in names if name in heading), None)
    if column is None and len(heading) != 1:
        raise BadInput("the list needs a column `accession`", value=f"{len(heading)} columns")
    rows = rows[1:] if column is not None else rows
    numbers = [row[column or 0].strip() if len(row) > (column or 0) else "" for row in rows]
    if not all(numbers):
        raise BadInput("every row of the list needs a number", value=f"row {numbers.index('') + 1}")
    return numbers
