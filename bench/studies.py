"""Seconds of one phantom study and of one prepared study, on one core, by class, with the shares of the steps.

python -m bench.studies [--repeats N] [--smoke]

Made: anatomy, lesions and scan at demonstration resolution (the body template is warm, as it is after the first patient of a body).
Prepared: from DICOM files on disk to the cache, as a hospital does it; its parts are timed again one by one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from bench.timing import against, heading, spread, table
from client.cases.identity import Pseudonyms
from client.cases.prepared import Prepared
from client.dicom.header import read_headers
from client.dicom.read import read_series
from client.dicom.scan import Series, group, list_files
from client.prepare import describe, prepare_study
from client.segmentation import SEGMENTERS
from shared_models.core.choices import pick
from shared_models.experiment import Preparation
from sim.hospital.preset import HospitalPreset
from sim.phantom.diseases import CLASSES
from sim.phantom.patient import make_phantom
from sim.scanner.dicom import Identity, write_series
from sim.scanner.scanner import scan

GOAL_S = 0.5
PARTS = ("headers", "reading", "segmenting", "features", "the rest")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def one_study(klass: str, seed: int, preset: HospitalPreset, folder: Path) -> dict[str, float]:
    """Make, write and prepare one study and return the seconds of each step."""
    scanner, names, preparation = preset.machine(), Pseudonyms(b"bench" * 8), Preparation()
    made_s, scanned = timed(lambda: scan(make_phantom(klass, seed=seed, grid_mm=preset.grid_mm, body=1), scanner, seed=seed))
    who = Identity(f"BENCH-{klass}-{seed}", "Phantom^Bench", date(1950, 1, 1), "M", date(2020, 1, 1), "bench")
    written_s, _ = timed(lambda: write_series(folder / "dicom", scanned, scanner, who))

    def found() -> Series:
        (series,), _ = group(read_headers(list_files(folder / "dicom")))
        return series

    headers_s, series = timed(found)
    prepared_s, _ = timed(lambda: prepare_study(series, preparation, names=names, workspace=folder / "workspace"))
    reading_s, reading = timed(lambda: read_series(series))
    segmenting_s, mask = timed(lambda: pick(SEGMENTERS, preparation.segmenter, kind="segmenter")(reading.volume))
    features_s, _ = timed(lambda: describe(Prepared(reading.volume, mask), preparation))
    total_s = headers_s + prepared_s
    parts = dict(
        zip(PARTS, (headers_s, reading_s, segmenting_s, features_s, max(0.0, prepared_s - reading_s - segmenting_s - features_s)), strict=True)
    )
    return {"made": made_s, "written": written_s, "prepared": total_s} | {name: part / total_s for name, part in parts.items()}


def measure(classes: list[str], preset: HospitalPreset, repeats: int) -> None:
    """Time all classes in turns and print the tables."""
    found: dict[str, list[dict[str, float]]] = {klass: [] for klass in classes}
    for turn in range(-1, repeats):  # turn -1 warms body templates and imports
        for klass in classes:
            with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
                times = one_study(klass, 100 + turn, preset, Path(folder))
            if turn >= 0:
                found[klass].append(times)
    rows, shares = [], []
    for klass, times in found.items():
        made = [t["made"] for t in times]
        cells = [spread([t[name] for t in times], 3) for name in ("made", "written", "prepared")]
        rows.append([klass, cells[0], against(GOAL_S, made), *cells[1:]])
        shares.append([klass, *(f"{100 * sum(t[name] for t in times) / len(times):.0f} %" for name in PARTS)])
    table(["class", "s per phantom volume", "goal", "s per DICOM series written", "s per prepared study"], rows)
    table(["share of a prepared study", *PARTS], shares)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="one class, coarse, once: does it run at all?")
    options = parser.parse_args()
    heading("phantom studies and their preparation, in one process on one core: median (range)")
    if options.smoke:
        measure(["normal"], HospitalPreset("bench", scanner="A", patients=1, resolution=6.0, grid_mm=6.0), 1)
    else:
        measure(list(CLASSES), HospitalPreset("bench", scanner="A", patients=1), options.repeats)


if __name__ == "__main__":
    main()
