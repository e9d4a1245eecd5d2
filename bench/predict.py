"""One prediction end to end: seconds, peak memory, and where the seconds go.

python -m bench.predict [--repeats N] [--smoke] [--folder FOLDER]

The study is the phantom of `bench.ct`, 300 slices of 512 x 512, written as DICOM; the release is the shipped experiment ``fibrosis`` with random
weights, which takes as long as with learnt ones. Each prediction is a fresh process; its seconds are those after the imports. A part's seconds are
its own, without those of the parts inside it, and of the processor: what else the machine does meanwhile is not in them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.ct import SHAPE, SMOKE_SHAPE, make_study
from bench.timing import Arm, heading, in_turns, spread, table

WAYS: dict[str, dict[str, Any]] = {"json and page": {}, "with SEG, SR, PDF": {"dicom": True, "pdf": True}}
PARTS = {
    "headers": ("client.predict", "read_patient"),
    "decoding": ("client.prepare", "read_series"),
    "de-identifying, cache": ("client.prepare", "prepare_study"),
    "preprocessing": ("client.prepare", "preprocess"),
    "quantification": ("client.prepare", "describe"),
    "network": ("client.predict", "calibrated"),
    "explanation": ("client.predict", "explain"),
    "pictures": ("client.predict", "seen_slices"),
    "SEG and SR": ("client.predict", "write_results"),
    "writing": ("client.predict", "write_outputs"),
}
"""Part to the function that it is, in the module that calls it; segmentation, which is chosen by name, is added by `watched`."""
SEGMENTING, REST = "segmenting", "the rest"


class Clock:
    """Seconds of each part by a clock, without those of the parts inside it."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.seconds = now, dict[str, float]()
        self._inside = [0.0]

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` with its seconds counted under `name`.

        Examples
        --------
        >>> clock = Clock()
        >>> inner = clock.timed("inner", lambda: time.sleep(0.02))
        >>> clock.timed("outer", inner)()
        >>> clock.seconds["inner"] >= 0.02 > 0.01 > clock.seconds["outer"]
        True
        """

        @functools.wraps(call)
        def watched(*arguments: Any, **options: Any) -> Any:
            began = self.now()
            self._inside.append(0.0)
            try:
                return call(*arguments, **options)
            finally:
                took = self.now() - began
                own = took - self._inside.pop()
                self._inside[-1] += took
                self.seconds[name] = self.seconds.get(name, 0.0) + own

        return watched


def watch(clock: Clock) -> None:
    """Put every part of a prediction on the clock, for the rest of this process."""
    import importlib

    from client.segmentation import SEGMENTERS

    for name, (module, function) in PARTS.items():
        place = importlib.import_module(module)
        setattr(place, function, clock.timed(name, getattr(place, function)))
    for name, segment in list(SEGMENTERS.items()):
        SEGMENTERS[name] = clock.timed(SEGMENTING, segment)
    setattr(importlib.import_module("client.predict"), "prepare_study", importlib.import_module("client.prepare").prepare_study)  # noqa: B010


def make_release(folder: Path) -> None:
    """Write the release unless it is there."""
    from shared_models.bundle import write_bundle
    from shared_models.catalogue import initial_state, inputs_of
    from sim.experiments import find

    if not (folder / "manifest.json").exists():
        experiment = find("fibrosis", [])
        state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=0)
        write_bundle(folder, state=state, experiment=experiment, card={"trained_on": "phantoms"})


def one(way: str, folder: Path) -> None:
    """One prediction, after the imports; its seconds go into a file for the parent."""
    began = time.perf_counter()
    import client.predict

    clock = Clock(time.process_time)
    watch(clock)
    imported, busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        client.predict.predict_study(folder / "dicom", folder / "release", Path(out), **WAYS[way])
    total, of_processor = time.perf_counter() - imported, time.process_time() - busy
    parts = {**clock.seconds, REST: of_processor - sum(clock.seconds.values())}
    row = {"imports": imported - began, "total": total, "of_processor": of_processor, "parts": parts}
    with (folder / "seconds.jsonl").open("a") as file:
        file.write(json.dumps({"way": way, **row}) + "\n")


def measure(folder: Path, shape: tuple[int, int, int], repeats: int) -> None:
    """Make study and release, predict in turns, print the tables."""
    make_study(folder, shape)
    make_release(folder / "release")
    with contextlib.suppress(FileNotFoundError):
        (folder / "seconds.jsonl").unlink()
    arms = [Arm(way, [sys.executable, "-m", "bench.predict", "--one", way, "--folder", str(folder)]) for way in WAYS]
    times = in_turns(arms, repeats=repeats)
    rows = [json.loads(line) for line in (folder / "seconds.jsonl").read_text().splitlines()]
    found = {way: [row for row in rows if row["way"] == way][-max(1, repeats) :] for way in WAYS}
    print(f"\na study of {shape[0]} slices of {shape[1]} x {shape[2]}")
    lines = [
        [way, *(spread([row[key] for row in found[way]]) for key in ("total", "of_processor", "imports")), f"{times[way].peak_mb:.0f}"]
        for way in WAYS
    ]
    table(["prediction", "seconds: median (range)", "of the processor", "imports, s", "peak MB"], lines)
    names = [*PARTS, SEGMENTING, REST]
    median = {way: {name: statistics.median([row["parts"].get(name, 0.0) for row in found[way]]) for name in names} for way in WAYS}
    order = sorted(names, key=lambda name: -max(parts[name] for parts in median.values()))
    table(["where the processor's seconds go", *WAYS], [[name, *(f"{median[way][name]:.2f}" for way in WAYS)] for name in order])


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a small study, each way once: does it run at all?")
    parser.add_argument("--folder", type=Path, help="keep study and release here; default: a temporary folder")
    parser.add_argument("--one", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.folder)
        return
    heading("a prediction, end to end, one thread")
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedild-bench-predict-")))
        measure(folder, SMOKE_SHAPE if options.smoke else SHAPE, 0 if options.smoke else options.repeats)


if __name__ == "__main__":
    main()
