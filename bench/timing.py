"""Whole processes timed in turns: A B C A B C ..., so that what else the machine does falls on all arms alike."""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "FEDILD_BENCH_MARK"
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Arm:
    """One way of doing the work: a command, started anew for every repetition with `environment` over the machine's own.

    `before` is called before each start, outside the clock.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None


@dataclass
class Times:
    """What was measured of one arm: seconds of each repetition, and peak memory of all its processes together, from the warm-up."""

    wall_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0


def in_turns(arms: Sequence[Arm], *, repeats: int, say: Callable[[str], None] = print) -> dict[str, Times]:
    """Run every arm once to warm the file cache (watching its memory), then `repeats` times in turns on the clock.

    With `repeats` 0 the warm-up itself is on the clock: enough to see that all runs.

    Raises
    ------
    RuntimeError
        A command failed; with the end of what it wrote.
    """
    times = {arm.name: Times() for arm in arms}
    for turn in range(repeats + 1):
        for arm in arms:
            wall_s, peak_mb = _run(arm, watch=turn == 0)
            if turn == 0:
                times[arm.name].peak_mb = peak_mb
            if turn or not repeats:
                times[arm.name].wall_s.append(wall_s)
            say(f"  {'warm-up' if turn == 0 else f'run {turn} of {repeats}'}: {arm.name} {wall_s:.2f} s")
    return times


def _run(arm: Arm, *, watch: bool) -> tuple[float, float]:
    arm.before()
    mark = secrets.token_hex(8)
    wanted = {**os.environ, "PYTHONPATH": str(ROOT), **arm.environment, MARK: mark}
    environment = {key: value for key, value in wanted.items() if value is not None}
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(arm.command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        peak_mb = 0.0
        try:
            while watch and process.poll() is None:
                peak_mb = max(peak_mb, sum(_own_mb(number) for number in _marked(mark)))
                time.sleep(SAMPLE_S)
            code = process.wait()
        finally:
            if process.poll() is None:  # the bench was interrupted
                process.terminate()
        wall_s = time.perf_counter() - began
        if code:
            output.seek(0)
            raise RuntimeError(f"{arm.name} ended with code {code}\n{output.read().decode(errors='replace')[-3000:]}")
    until = time.monotonic() + 20
    while _marked(mark) and time.monotonic() < until:  # what an arm leaves running must not slow the next one
        time.sleep(SAMPLE_S)
    return wall_s, peak_mb


def _marked(mark: str) -> list[int]:
    """Return the processes that carry the mark in their environment: children, and what has cut itself loose from its parent."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _own_mb(process: int) -> float:
    """Return a process's share of memory: pages that several processes hold count in parts (PSS)."""
    try:
        for line in (Path("/proc") / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range.

    >>> spread([1.0, 3.0, 2.0])
    '2.00 (1.00 - 3.00)'
    """
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio within each turn: what slowed a whole turn cancels out."""
    return [a / b for a, b in zip(above, below, strict=True)]


def against(goal: float, values: Sequence[float], *, at_least: bool = False) -> str:
    """Return the goal and whether the median meets it.

    >>> against(0.85, [0.7, 0.8, 0.9])
    '<= 0.85 met'
    """
    middle = statistics.median(values)
    met = middle >= goal if at_least else middle <= goal
    return f"{'>=' if at_least else '<='} {goal:g} {'met' if met else 'MISSED'}"


def heading(title: str) -> None:
    """Print what runs, how it was started and on how many cores."""
    words = ["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    print(f"\n{title}\n{' '.join(words)}; {len(os.sched_getaffinity(0))} cores; one thread a process where not said otherwise", flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain table: the first column to the left, the others to the right."""
    texts = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for number, row in enumerate(texts):
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))))
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)
