"""Memory and file handles of a deployment's processes, watched from outside through /proc.

RSS counts every page that a process has in memory; PSS divides pages that several processes hold (libraries, most of all) among them, so
only PSS may be summed. The kernel keeps the highest RSS of each process itself, so no peak is missed; PSS peaks are those seen at a look.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from shared_models.core.files import read_json
from shared_models.core.supervision import marked

LOOK_S = 0.5
ROLES = {
    "server.superlink": "superlink",
    "flower-superexec": "superexec",
    "client.node": "supernode",
    "client.executor": "superexec",
    "flwr-serverapp": "server app",
    "flwr-clientapp": "messenger",
    "server.door": "door",
    "client.resident": "worker",
    "server.runs.outcome": "report",
    "server.runs.start": "start",
    "/flwr ": "flwr command",
}
"""What a process is called, or what stands on its command line, and what we call it."""


@dataclass(frozen=True)
class Reading:
    """One process at one moment: MB of PSS and RSS, highest RSS so far, open file handles."""

    pss_mb: float
    rss_mb: float
    peak_rss_mb: float
    handles: int


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the watch began, the round that had been finished, a reading for each process (side, role, pid)."""

    at_s: float
    round: int
    readings: Mapping[tuple[str, str, int], Reading]


def read(pid: int) -> Reading | None:
    """Return a process's reading; None when it has ended."""
    here = Path("/proc") / str(pid)
    try:
        status, rollup = (here / "status").read_text(), (here / "smaps_rollup").read_text()
        return Reading(_mb(rollup, "Pss"), _mb(status, "VmRSS"), _mb(status, "VmHWM"), len(list((here / "fd").iterdir())))
    except (OSError, ValueError):
        return None


def _mb(text: str, name: str) -> float:
    """
    >>> _mb("VmRSS:	    2048 kB", "VmRSS")
    2.0
    """
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {name}")
    return int(found.group(1)) / 1024


def role_of(command: str) -> str | None:
    """Return what a process is from its command line, None for one that is on its way to become something.

    >>> role_of("/usr/bin/python /srv/bin/flwr-serverapp --token 1"), role_of("sh")
    ('server app', None)
    """
    # A program's leash names the program too, until it has become it.
    return None if "leash.py" in command else next((role for word, role in ROLES.items() if word in command), None)


def processes_of(folder: Path) -> dict[int, str]:
    """Return process to role of what the supervisor of `folder` runs, itself included."""
    try:
        up = read_json(folder / "up.json")
    except (OSError, ValueError):
        return {}
    found = {int(up["pid"]): "supervisor"}
    for pid in marked(str(up["mark"])):
        with suppress(OSError):
            called, command = ((Path("/proc") / str(pid) / name).read_bytes() for name in ("comm", "cmdline"))
            role = role_of((command if called.decode().strip() not in ROLES else called).replace(b"\0", b" ").decode(errors="replace"))
            if role is not None and pid not in found:
                found[pid] = role
    return found


def reset_peaks(folders: Mapping[str, Path]) -> None:
    """Set each process's highest RSS to what it holds now."""
    for folder in folders.values():
        for pid in processes_of(folder):
            with suppress(OSError):
                (Path("/proc") / str(pid) / "clear_refs").write_text("5")


@dataclass
class Watch:
    """Looks at all processes of several folders again and again, in a thread, while its body runs.

    Parameters
    ----------
    folders : mapping
        Side (``server``, name of a site) to folder.
    round_of : callable
        Says how many rounds have been finished.
    """

    folders: Mapping[str, Path]
    round_of: Callable[[], int] = lambda: 0
    look_s: float = LOOK_S
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> Sample:
        """Take one sample."""
        readings = {}
        for side, folder in self.folders.items():
            for pid, role in processes_of(folder).items():
                if (reading := read(pid)) is not None:
                    readings[side, role, pid] = reading
        sample = Sample(time.monotonic() - self._began, self.round_of(), readings)
        self.samples.append(sample)
        return sample

    def __enter__(self) -> Watch:
        self._began, self._stop = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self.look_s)


@dataclass(frozen=True)
class Peak:
    """The largest values that any process of one role on one kind of side had."""

    pss_mb: float
    rss_mb: float
    handles: int


def peaks(samples: Sequence[Sample]) -> dict[tuple[str, str], Peak]:
    """Return the largest readings by kind of side (``server`` or ``site``) and role; of several sites the largest."""
    found: dict[tuple[str, str], Peak] = {}
    for sample in samples:
        for (side, role, _), reading in sample.readings.items():
            key = ("server" if side == "server" else "site", role)
            old = found.get(key, Peak(0, 0, 0))
            found[key] = Peak(max(old.pss_mb, reading.pss_mb), max(old.rss_mb, reading.peak_rss_mb), max(old.handles, reading.handles))
    return found


def total_pss_mb(samples: Sequence[Sample], side: str) -> float:
    """Return the largest sum of PSS over all processes of a side."""
    return max((sum(reading.pss_mb for (where, _, _), reading in sample.readings.items() if where == side) for sample in samples), default=0.0)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of `y` over `x`; 0 when all `x` are equal.

    >>> slope([1, 2, 3, 4], [10, 12, 14, 16])
    2.0
    """
    if not x:
        return 0.0
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    below = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / below if below else 0.0
