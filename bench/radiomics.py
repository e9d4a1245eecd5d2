"""Seconds of the radiomics families on a whole-lung region against pyradiomics' C code, family by family, in turns on the same array.

python -m bench.radiomics [--python PATH] [--repeats N] [--grid-mm 2] [--smoke]

PATH is the Python of an environment that has pyradiomics; without one only our own seconds are measured. Each side reads the array, and
pyradiomics is spared its own cutting to the region, before the clock starts. Equality of the values is part of the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.radiomics_reference import FAMILIES
from bench.timing import against, heading, ratios, spread, table
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.features import FEATURES
from sim.phantom.patient import make_phantom

OURS = {"firstorder": "first_order"}
"""Families that our table names otherwise."""

INSTALL = "no --python: ours only. To compare: python -m venv reference && reference/bin/pip install pyradiomics-bhklab==3.1.4 SimpleITK"
NOISE_HU = 18.0


def lungs(grid_mm: float) -> Prepared:
    """Return a phantom patient with fibrosis, under the noise of a soft kernel."""
    phantom = make_phantom("UIP", seed=3, grid_mm=grid_mm, body=1)
    noise = np.random.default_rng(3).normal(0, NOISE_HU, phantom.hu.shape)
    return Prepared(Volume(np.rint(phantom.hu + noise).astype(np.float32), phantom.spacing_mm), phantom.lung)


def our_turn(family: str, prepared: Prepared) -> tuple[float, dict[str, float]]:
    began = time.perf_counter()
    found = FEATURES[OURS.get(family, family)](prepared)
    return time.perf_counter() - began, {name.split("_", 2)[2]: value for name, value in found.items()}


class Reference:
    """pyradiomics in its own environment, one family at a call."""

    def __init__(self, python: Path, array: Path) -> None:
        script = Path(__file__).with_name("radiomics_reference.py")
        self.process = subprocess.Popen([str(python), "-I", str(script), str(array)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, family: str) -> tuple[float, dict[str, float]]:
        assert self.process.stdin and self.process.stdout
        print(family, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reference ended with code {self.process.wait()}: does that Python have pyradiomics?")
        answer = json.loads(line)
        return answer["seconds"], answer["values"]

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def furthest(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Return the largest relative difference of two families' values.

    >>> furthest({"Mean": -799.2}, {"Mean": -800.0})
    0.001
    """
    if set(ours) != set(theirs):
        raise RuntimeError(f"names differ: {sorted(set(ours) ^ set(theirs))}")
    return round(max(abs(ours[name] - value) / max(abs(ours[name]), abs(value), 1e-9) for name, value in theirs.items()), 15)


def measure(prepared: Prepared, families: Sequence[str], reference: Reference | None, repeats: int) -> None:
    """Run every family once to warm up, then `repeats` times in turns, and print the table."""
    mine: dict[str, list[float]] = {family: [] for family in families}
    others: dict[str, list[float]] = {family: [] for family in families}
    apart = dict.fromkeys(families, 0.0)
    for turn in range(-1, repeats):
        for family in families:
            seconds, ours = our_turn(family, prepared)
            theirs_s, theirs = reference.turn(family) if reference else (0.0, ours)
            apart[family] = furthest(ours, theirs)
            if turn >= 0 or not repeats:
                mine[family].append(seconds)
                others[family].append(theirs_s)
    mine["all"] = [sum(turn) for turn in zip(*(mine[family] for family in families), strict=True)]
    others["all"] = [sum(turn) for turn in zip(*(others[family] for family in families), strict=True)]
    mine["all but shape"] = [a - b for a, b in zip(mine["all"], mine.get("shape", [0.0] * len(mine["all"])), strict=True)]
    others["all but shape"] = [a - b for a, b in zip(others["all"], others.get("shape", [0.0] * len(others["all"])), strict=True)]
    rows = []
    for family in mine:
        row: list[object] = [family, spread(mine[family], 3)]
        if reference:
            ratio = ratios(mine[family], others[family])
            row += [spread(others[family], 3), spread(ratio, 3), against(1.0, ratio), f"{apart[family]:.1e}" if family in apart else ""]
        rows.append(row)
    table(["family", "ours, s", *(["pyradiomics, s", "ours / pyradiomics", "goal", "values apart"] if reference else [])], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, help="Python of an environment that has pyradiomics")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--grid-mm", type=float, default=2.0)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--smoke", action="store_true", help="a coarse grid, once: enough to see that it runs")
    options = parser.parse_args()
    heading("radiomics families on a whole-lung region")
    prepared = lungs(5.0 if options.smoke else options.grid_mm)
    mask = prepared.mask
    assert mask is not None
    print(f"phantom of {prepared.volume.hu.shape} voxels, {prepared.volume.spacing_mm[0]:g} mm; {np.count_nonzero(mask)} in the lungs", flush=True)
    if options.python is None:
        print(INSTALL, flush=True)
        measure(prepared, options.families, None, 0 if options.smoke else options.repeats)
        return
    with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
        array = Path(folder) / "region.npz"
        np.savez(array, hu=prepared.volume.hu, mask=mask > 0, spacing_mm=np.array(prepared.volume.spacing_mm))
        reference = Reference(options.python, array)
        try:
            measure(prepared, options.families, reference, 0 if options.smoke else options.repeats)
        finally:
            reference.close()


if __name__ == "__main__":
    main()
