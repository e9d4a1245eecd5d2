"""Getting a chest CT ready, against its limits: reading a series over reading its bytes, and a whole study over the plain way.

python -m bench.ct [--repeats N] [--smoke] [--folder FOLDER]

The study is a phantom of 300 slices of 512 x 512, written as DICOM. Ours goes the whole way of a hospital (headers, order, HU, de-identification,
findings, lung mask, 108 densities, half resolution, cache with checksum), with more checks than the plain way (`bench.plain_ct`) has; both
ways start as fresh processes in turns, and the seconds are those after the imports, with the imports in a column of their own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from bench.timing import Arm, against, heading, in_turns, ratios, spread, table

SHAPE = (300, 512, 512)
SMOKE_SHAPE = (60, 128, 128)
SPACING_MM = (1.0, 0.7, 0.7)
GOAL = 4.0
WORDS = ("whole_volume_l", "whole_mld_hu", "whole_haa_percent", "whole_laa950_percent", "right_volume_l", "upper_mld_hu")


def make_study(folder: Path, shape: tuple[int, int, int]) -> None:
    """Write the phantom, in the middle of a field of view of `shape`, unless it is there."""
    from sim.phantom.patient import make_phantom
    from sim.scanner.dicom import Identity, write_series
    from sim.scanner.scanner import SCANNERS, Scan, scan

    if (folder / "made").exists():
        return
    step = SHAPE[1] / shape[1]
    spacing = (SPACING_MM[0] * SHAPE[0] / shape[0], SPACING_MM[1] * step, SPACING_MM[2] * step)
    scanner = replace(SCANNERS["A"], spacing_mm=spacing[0], thickness_mm=spacing[0], pixel_mm=spacing[1], stretch=0.5 + 0.5 * step)
    made = scan(make_phantom("UIP", seed=4, grid_mm=1.5 if step == 1 else 4.0, body=1), scanner, seed=4)
    hu = np.full(shape, -1000, np.int16)
    hu += np.random.default_rng(0).normal(0, 12, shape).astype(np.int16)
    counts = [min(a, b) for a, b in zip(shape, made.hu.shape, strict=True)]
    at = [(a - n) // 2 for a, n in zip(shape, counts, strict=True)]
    hu[tuple(slice(a, a + n) for a, n in zip(at, counts, strict=True))] = made.hu[tuple(slice(0, n) for n in counts)]
    first = tuple(f - a * s for f, a, s in zip(made.first_mm, at, spacing, strict=True))
    who = Identity("BENCH-CT", "Phantom^Bench", date(1950, 1, 1), "M", date(2020, 1, 1), "bench")
    write_series(folder / "dicom", Scan(hu, spacing, (first[0], first[1], first[2])), scanner, who)
    (folder / "made").touch()


def grid_mm(folder: Path) -> tuple[float, float, float]:
    """Twice the voxel size of the study, so that both ways average the same eight voxels."""
    from client.dicom.header import read_headers
    from client.dicom.read import heights_mm
    from client.dicom.scan import group, list_files

    (series,), _ = group(read_headers(list_files(folder / "dicom")))
    z = np.sort(heights_mm(list(series.slices)))
    step = float(z[-1] - z[0]) / (len(z) - 1)
    return 2 * step, 2 * series.slices[0].spacing_mm[0], 2 * series.slices[0].spacing_mm[1]


def ours(folder: Path, out: Path) -> dict[str, float]:
    """One study our way."""
    from client.prepare import prepare_folder
    from shared_models.experiment import Preparation

    report = prepare_folder(folder / "dicom", out, Preparation(grid_mm=grid_mm(folder)), secret=b"bench" * 8)
    return dict(report.cohort.cases[0].visits[0].features)


def plain(folder: Path, out: Path) -> dict[str, float]:
    """One study the plain way."""
    from bench.plain_ct import prepare

    return prepare(folder / "dicom", out / "plain.npz")


def warm(way: str) -> None:
    """Import what the way needs."""
    if way == "ours":
        import client.prepare  # noqa: F401
    else:
        import bench.plain_ct  # noqa: F401


WAYS: dict[str, Callable[[Path, Path], dict[str, float]]] = {"ours": ours, "plain": plain}


def one(way: str, folder: Path, out: Path) -> None:
    """One study, after the imports; its seconds and densities go into a file for the parent."""
    began = time.perf_counter()
    warm(way)
    imported = time.perf_counter()
    found = WAYS[way](folder, out)
    times = {"imports_s": imported - began, "study_s": time.perf_counter() - imported}
    with open(folder / f"{way}.jsonl", "a") as file:
        file.write(json.dumps({**times, "found": {word: found[word] for word in WORDS}}) + "\n")


def reading(folder: Path, repeats: int) -> None:
    """Read the series and its raw bytes in turns."""
    from client.dicom.header import read_headers
    from client.dicom.read import read_series
    from client.dicom.scan import group, list_files

    def series() -> None:
        (found,), _ = group(read_headers(list_files(folder / "dicom")))
        read_series(found)

    def raw() -> None:
        for path in list_files(folder / "dicom"):
            Path(path).read_bytes()

    times: dict[str, list[float]] = {"raw": [], "series": []}
    for turn in range(-1, repeats):
        for name, call in (("raw", raw), ("series", series)):
            began = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append(time.perf_counter() - began)
    rows = [["raw bytes, s", spread(times["raw"], 3)], ["series to HU volume, s", spread(times["series"], 3)]]
    table(["reading", "median (range)"], [*rows, ["series / raw bytes", spread(ratios(times["series"], times["raw"]))]])


def rate(folder: Path, out: Path, studies: int) -> float:
    """Studies per minute with two processes."""
    for number in range(studies):
        target = out / "many" / str(number)
        target.mkdir(parents=True)
        for path in sorted((folder / "dicom").iterdir()):
            # another patient's study: other identifiers of the same length, and a last pixel of its own
            data = path.read_bytes().replace(b"BENCH-CT", b"BENCH-%02d" % number)
            (target / path.name).write_bytes(data[:-2] + bytes([data[-2] ^ (number + 1)]) + data[-1:])
    from client.dicom.scan import list_files

    for number in range(studies):
        _own_uids(list_files(out / "many" / str(number)), number)
    command = [sys.executable, "-m", "sim.cli", "prepare", str(out / "many"), "--out", str(out / "rate"), "--processes", "2", "--quiet"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    report = json.loads((out / "rate" / "report.json").read_text())
    if len(report["accepted"]) != studies:
        raise RuntimeError("every study must be accepted")
    return 60 * studies / seconds


def _own_uids(paths: list[str], number: int) -> None:
    from client.dicom.header import read_header
    from client.dicom.slices import SliceFile

    for path in paths:
        header = read_header(path)
        if isinstance(header, SliceFile):
            data = Path(path).read_bytes()
            for uid in (header.study_uid, header.series_uid, header.image_uid):
                data = data.replace(uid.encode(), uid[:-2].encode() + b"%02d" % number)
            Path(path).write_bytes(data)


def measure(folder: Path, shape: tuple[int, int, int], repeats: int) -> None:
    """Make the study, time everything, print the tables."""
    make_study(folder, shape)
    reading(folder, max(1, repeats))
    out = Path(tempfile.mkdtemp(prefix="fedild-bench-ct-", dir=folder))
    for way in WAYS:
        (folder / f"{way}.jsonl").unlink(missing_ok=True)

    def fresh(way: str) -> Callable[[], None]:
        return lambda: shutil.rmtree(out / way, ignore_errors=True)

    try:
        arms = [
            Arm(way, [sys.executable, "-m", "bench.ct", "--one", way, "--folder", str(folder), "--out", str(out / way)], before=fresh(way))
            for way in WAYS
        ]
        memory = in_turns(arms, repeats=repeats)
        lines = {way: [json.loads(line) for line in (folder / f"{way}.jsonl").read_text().splitlines()] for way in WAYS}
        timed: dict[str, list[dict[str, Any]]] = {way: rows[-max(1, repeats) :] for way, rows in lines.items()}
        seconds = {way: [row["study_s"] for row in rows] for way, rows in timed.items()}
        gain = ratios(seconds["plain"], seconds["ours"])
        rows = [
            [
                way,
                spread(seconds[way]),
                spread([row["imports_s"] for row in timed[way]]),
                f"{memory[way].peak_mb:.0f}",
                f"{60 / statistics.median(seconds[way]):.1f}",
            ]
            for way in WAYS
        ]
        table([f"prepare {shape[1]} x {shape[2]} x {shape[0]}", "s a study", "s of imports", "peak MB", "studies a minute, 1 process"], rows)
        table(["plain / ours", "goal"], [[spread(gain), against(GOAL, gain, at_least=True)]])
        pairs = [(word, timed["ours"][-1]["found"][word], timed["plain"][-1]["found"][word]) for word in WORDS]
        table(["equal results?", "ours", "plain", "difference"], [[w, f"{a:.3f}", f"{b:.3f}", f"{a - b:+.3f}"] for w, a, b in pairs])
        agree(out)
        table(["two processes", "studies a minute"], [["ours", f"{rate(folder, out, 4 if repeats else 2):.1f}"]])
    finally:
        shutil.rmtree(out, ignore_errors=True)


def agree(out: Path) -> None:
    """Print how far the cached results of both ways lie apart."""
    from client.cases.cache import load

    (cached,) = (out / "ours" / "cache").iterdir()
    prepared, other = load(cached).prepared, np.load(out / "plain" / "plain.npz")
    mask = np.zeros_like(other["mask"]) if prepared.mask is None else prepared.mask
    dice = 2 * ((mask > 0) & (other["mask"] > 0)).sum() / max(1, (mask > 0).sum() + (other["mask"] > 0).sum())
    worst = np.abs(prepared.volume.hu - other["hu"]).max()
    table(["cached volumes", "value"], [["Dice of the lung masks", f"{dice:.4f}"], ["largest difference of the image, HU", f"{worst:.1f}"]])


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.ct", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="a small study, once: does it run at all?")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-ct"))
    parser.add_argument("--one", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.folder, options.out)
        return
    heading("chest CT from DICOM to the cache: median (range)")
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="fedild-bench-ct-") as folder:
            measure(Path(folder), SMOKE_SHAPE, 0)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options.folder, SHAPE, options.repeats)


if __name__ == "__main__":
    main()
