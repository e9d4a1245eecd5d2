"""The weighted mean of a round's replies: seconds and peak memory for 4, 16 and 64 sites, against copying the bytes and against Flower's FedAvg.

python -m bench.aggregation [--repeats N] [--sites 4,16,64] [--parameters 7000000] [--smoke]

Each arm is a process of its own (its peak memory is the process's, less what it stood at before), started in turns. All three begin with
the replies as spooled files in a warm page cache: ours reads them by blocks, the copy reads them into one buffer that is used again,
Flower's function needs all of them in memory, so its reading is not on its clock. Memory is in units of one model. For the small model, where
opening the files is most of the time, no goals are set.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.timing import ROOT, against, heading, ratios, spread, table
from server.strategies.replies import Reply, Spool
from shared_models.core.files import read_state, write_state

ARMS = ("ours", "copy", "flower")
SMALL = 70_000


def write_replies(folder: Path, sites: int, parameters: int) -> None:
    """Write one reply a site, split over keys as a network has them: a few large, many small."""
    for number in range(sites):
        rng = np.random.default_rng([3, number])
        sizes = [parameters // 2, parameters // 4, *[parameters // 64] * 16]
        state = {f"layer{i:02d}.weight": rng.standard_normal(size, np.float32) for i, size in enumerate(sizes)}
        write_state(folder / f"site{number:03d}.safetensors", state, durable=False)


def weights_of(sites: int) -> list[float]:
    """Return the numbers of patients that weigh the sites."""
    return [float(20 + 3 * number) for number in range(sites)]


def run_arm(arm: str, folder: Path) -> None:
    """Do one aggregation in this process and print seconds, peak bytes over the start, and the first values of the result as JSON."""
    paths = sorted(folder.glob("*.safetensors"))
    weights = weights_of(len(paths))
    like = {key: np.zeros_like(value) for key, value in read_state(paths[0]).items()}
    sample = sorted(like)[0]
    if arm == "flower":
        found = _flower(paths, weights)
    elif arm == "ours":
        spool = Spool(folder)
        spool._replies = {path.stem: Reply(path.stem, path, round(weight), 1) for path, weight in zip(paths, weights, strict=True)}
        _reset_peak()
        before, began = _peak(), time.perf_counter()
        result = spool.weighted_mean(like, weights)
        found = time.perf_counter() - began, _peak() - before, result[sample]
    else:
        buffer = bytearray(paths[0].stat().st_size)
        _reset_peak()
        before, began = _peak(), time.perf_counter()
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                file.readinto(buffer)
        found = time.perf_counter() - began, _peak() - before, np.zeros(1)
    wall_s, peak, values = found
    print(json.dumps({"wall_s": wall_s, "peak": peak, "values": np.asarray(values[:1000], float).tolist()}))


def _flower(paths: list[Path], weights: list[float]) -> tuple[float, int, np.ndarray]:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    def record(path: Path, weight: float) -> RecordDict:
        arrays = ArrayRecord({key: Array(value) for key, value in read_state(path).items()})
        return RecordDict({"state": arrays, "numbers": MetricRecord({"num-examples": weight})})

    _reset_peak()
    before = _peak()
    records = [record(path, weight) for path, weight in zip(paths, weights, strict=True)]
    began = time.perf_counter()
    result = aggregate_arrayrecords(records, "num-examples")
    wall_s = time.perf_counter() - began
    return wall_s, _peak() - before, result[sorted(result)[0]].numpy().reshape(-1)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is held now


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(sites: int, parameters: int, repeats: int) -> list[str]:
    """Run all arms in turns and return a row of the table.

    Raises
    ------
    SystemExit
        Ours and Flower's results differ by more than 1e-6 of the largest value.
    """
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    peaks = dict.fromkeys(ARMS, 0)
    values: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
        write_replies(Path(folder), sites, parameters)
        model = 4 * parameters
        for _ in range(repeats):
            for arm in ARMS:
                run = subprocess.run([sys.executable, "-m", "bench.aggregation", "--arm", arm, folder], cwd=ROOT, capture_output=True, text=True)
                if run.returncode:
                    raise SystemExit(run.stderr)
                answer = json.loads(run.stdout)
                seconds[arm].append(answer["wall_s"])
                peaks[arm] = max(peaks[arm], answer["peak"])
                values[arm] = np.array(answer["values"])
    difference = float(np.abs(values["ours"] - values["flower"]).max() / np.abs(values["flower"]).max())
    if not difference <= 1e-6:
        raise SystemExit(f"ours and Flower's mean differ by {difference:.2g}")
    copied, faster = ratios(seconds["ours"], seconds["copy"]), ratios(seconds["flower"], seconds["ours"])
    memory = peaks["ours"] / model
    goals = [against(1.5, copied), against(3, faster, at_least=True), against(3, [memory])] if parameters > SMALL else ["", "", ""]
    return [
        f"{parameters:,} x {sites}",
        *(f"{1000 * float(np.median(seconds[arm])):.1f}" for arm in ARMS),
        f"{spread(copied)} {goals[0]}",
        f"{spread(faster, 1)} {goals[1]}",
        f"{memory:.2f} {goals[2]}",
        f"{peaks['flower'] / model:.1f}",
        f"{difference:.0e}",
    ]


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.aggregation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sites", default="4,16,64")
    parser.add_argument("--parameters", type=int, default=7_000_000)
    parser.add_argument("--smoke", action="store_true", help="a small model, two sites, once: does it run at all?")
    parser.add_argument("--arm", nargs=2, metavar=("ARM", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        run_arm(options.arm[0], Path(options.arm[1]))
        return
    heading("weighted mean of the spooled replies of a round")
    sizes = [SMALL] if options.smoke else [SMALL, options.parameters]
    numbers = [2] if options.smoke else [int(text) for text in options.sites.split(",")]
    rows = [measure(sites, size, 1 if options.smoke else options.repeats) for size in sizes for sites in numbers]
    columns = ["parameters x sites", "ours ms", "copy ms", "Flower ms", "ours / copy", "Flower / ours", "models of memory", "Flower's", "difference"]
    table(columns, rows)


if __name__ == "__main__":
    main()
