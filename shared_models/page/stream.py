"""Keeping a page up to date: its parts are drawn by the server alone, and those that have changed go to the browser as server-sent events.

A part is a piece of HTML under a name; the page holds it in an element with ``data-part``. Without scripts the page is whole and is reloaded.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from shared_models.core.files import canonical_json, sha256

LOOK_S = 1.0
"""Seconds between two looks at the folder."""
REST_S = 15.0
"""Seconds after which an empty line says that the stream is alive."""
LONGEST_S = 3600.0
"""A stream ends after that; the browser asks for the next one, and is asked in turn whether it may."""
MOST_STREAMS = 32
MOST_KEPT = 16

Parts = dict[str, Markup]


@dataclass(frozen=True)
class Drawn:
    """The parts of a page at one moment; `over` says that nothing will change any more."""

    parts: Parts
    over: bool = False

    @property
    def digests(self) -> dict[str, str]:
        """A short digest of each part."""
        return {name: sha256(text.encode())[:16] for name, text in self.parts.items()}

    @property
    def digest(self) -> str:
        """One of all of them."""
        return sha256(canonical_json(self.digests).encode())[:16]


def stamp_of(*paths: Path) -> tuple[tuple[int, int], ...]:
    """Return times and sizes of files: equal as long as nobody has written to them; a missing one counts as empty."""
    found = []
    for path in paths:
        try:
            about = path.stat()
            found.append((about.st_mtime_ns, about.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


@dataclass
class Drawings:
    """Keeps what was drawn until the files behind it change: ten viewers cost as much as one."""

    _kept: OrderedDict[Hashable, tuple[Hashable, Drawn]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable, stamp: Callable[[], Hashable], draw: Callable[[], Drawn]) -> Drawn:
        """Return the drawing under `key`, made anew when `stamp` has changed."""
        now = stamp()  # before the drawing: what is written meanwhile is seen at the next look
        with self._lock:
            before = self._kept.get(key)
            if before is None or before[0] != now:
                before = (now, draw())
                self._kept[key] = before
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return before[1]


class Streams:
    """The open event streams of a page."""

    def __init__(self, *, look_s: float = LOOK_S, longest_s: float = LONGEST_S) -> None:
        self.look_s, self.longest_s = look_s, longest_s
        self.stopping = threading.Event()
        self.open = 0

    @property
    def is_full(self) -> bool:
        """Whether no more viewers are kept up to date."""
        return self.open >= MOST_STREAMS

    async def events(self, drawn: Callable[[], Drawn], *, seen: str) -> AsyncIterator[str]:
        """Yield the changed parts as server-sent events.

        Parameters
        ----------
        drawn : callable
            Gives the page as it is now.
        seen : str
            Digest of the page that the browser has; another one gets every part first.
        """
        self.open += 1
        began = rested = time.monotonic()
        known: dict[str, str] | None = None
        try:
            yield "retry: 2000\n\n"
            while not self.stopping.is_set() and time.monotonic() - began < self.longest_s:
                now = await asyncio.to_thread(drawn)
                digests = now.digests
                if known is None:
                    known = digests if now.digest == seen else {}
                if changed := {name: [digests[name], now.parts[name]] for name in digests if known.get(name) != digests[name]}:
                    yield f"event: parts\ndata: {json.dumps(changed)}\n\n"
                    known, rested = digests, time.monotonic()
                if now.over:
                    yield "event: over\ndata: {}\n\n"
                    return
                if time.monotonic() - rested >= REST_S:
                    yield ": still here\n\n"
                    rested = time.monotonic()
                await asyncio.sleep(self.look_s)
        finally:
            self.open -= 1
