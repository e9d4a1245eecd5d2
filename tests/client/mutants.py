"""Byte-flip mutants of real slices: each is read, decoded and de-identified in a process of its own kind; none may crash or hang.

Run ``FEDILD_REAL_DATA=... python -m tests.client.mutants --count 2000``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from pydicom import dcmread

from client.cases.identity import Pseudonyms
from client.dicom.acquisition import describe_acquisition
from client.dicom.deidentify import deidentify
from client.dicom.header import read_full_header, read_slices
from client.dicom.pixels import read_hu
from client.dicom.residue import residue
from client.dicom.slices import Dismissed
from client.processes import Processes
from shared_models.core.errors import BadStudy
from tests.client.real_data import real

MAX_S = 10.0
NAMES = Pseudonyms(bytes(range(32)))


def originals() -> list[bytes]:
    """Real slices: two kernels of one patient, and one slice in every transfer syntax, its type made ORIGINAL so that its pixels are looked at."""
    found = [sorted(real("lung_pet_ct_dx").rglob("*.dcm"))[n].read_bytes() for n in (4, 40)]
    for path in sorted(real("cornerstone_ct_codecs").glob("CT*.dcm*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(path)
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            out = io.BytesIO()
            ds.save_as(out)
        found.append(out.getvalue())
    return found


def mutant(slices: list[bytes], number: int) -> bytes:
    """Mutant `number`: one to eight bytes changed, half of the mutants in the first two kilobytes, where the header is; some are cut short."""
    rng = np.random.default_rng([11, number])
    data = bytearray(slices[number % len(slices)])
    end = min(2048, len(data)) if number % 2 else len(data)
    for place in rng.integers(128, end, int(rng.integers(1, 9))):
        data[place] = int(rng.integers(256))
    return bytes(data[: int(rng.integers(200, len(data)))] if number % 10 == 9 else data)


def attempt(path: str) -> tuple[str, float]:
    """Take one file the way of a slice; return what became of it and the seconds it took."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _outcome(path), time.perf_counter() - start


def _outcome(path: str) -> str:
    (one, *_) = read_slices(path)
    if isinstance(one, Dismissed):
        return one.reason
    try:
        read_hu(one, np.empty((one.rows, one.columns), np.float32))
    except BadStudy as error:
        return error.reason
    header = read_full_header(one)
    clean = deidentify(header, NAMES)
    describe_acquisition(clean)
    return "RESIDUE" if residue(header, clean) else "accepted"


def run(count: int, processes: int) -> tuple[Counter[str], float]:
    """Return how the mutants ended (``crash`` where one took its process down) and the seconds of the slowest."""
    slices = originals()
    with tempfile.TemporaryDirectory() as folder, Processes(processes) as workers:
        paths = []
        for number in range(count):
            path = Path(folder, str(number))
            path.write_bytes(mutant(slices, number))
            paths.append(str(path))
        ends = list(workers.map(attempt, paths, lost=lambda _: ("crash", 0.0)))
    return Counter(end for end, _ in ends), max(seconds for _, seconds in ends)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    ends, slowest = run(options.count, options.processes)
    for end, number in ends.most_common():
        print(f"{number:6d} {end}")
    print(f"slowest {slowest:.2f} s")
    return int(ends["crash"] > 0 or slowest > MAX_S)


if __name__ == "__main__":
    sys.exit(main())
