"""Every way of aggregating a round's replies: seconds and peak memory, against copying the bytes and against Flower's FedAvg.

python -m bench.aggregation [--repeats N] [--sites 4,16,64] [--parameters 7000000,25000000,100000000] [--only fedavg,median] [--budget-mb N] [--smoke]

Each arm is a process of its own (its peak memory is the process's high-water mark, less what it stood at before), started in turns. All begin
with the replies as spooled files in a warm page cache: ours reads them by blocks, the copy reads them into one buffer that is used again,
Flower's function needs all of them in memory, so its reading is not on its clock. Memory is in units of one model: what a strategy keeps and
returns beside the model (momentum, control variates) is in it. Where all files together are more than the budget, a few stand for them
(`bench.replies`), and Flower's records share their arrays: its memory is then a lower bound, marked >. Strategies that are one function at the
server are one row. Ours runs on two threads where there are two cores; the copy and Flower's on one.
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

from bench.replies import bytes_of, layout, places, spool_of, states, weights_of, write_replies
from bench.timing import ROOT, against, heading, ratios, spread, table
from server.strategies import STRATEGIES
from server.strategies.strategy import Strategy

SMALL = 70_000
MEAN = "fedavg"
WHOLE = ("cyclic", "one_shot")
"""Strategies that take whole files: timed only where every site has one of its own."""
FULL = "7000000,25000000,100000000"


def built(name: str) -> Strategy:
    """Return a strategy with its own defaults, averaging with patients where it can."""
    return STRATEGIES[name].build(None)


def rows_of(only: str, sites: int, whole: bool) -> list[list[str]]:
    """Return the strategies of networks that so many replies are enough for, those that are one function at the server together."""
    groups: dict[object, list[str]] = {}
    for name, spec in STRATEGIES.items():
        if (whole or name not in WHOLE) and spec.fit == "gradient" and spec.least({}) <= sites and (not only or name in only.split(",")):
            aggregate = built(name).aggregate
            plain = aggregate.__qualname__.startswith("fedavg.")
            groups.setdefault(aggregate.__code__ if plain else name, []).append(name)
    return list(groups.values())


def run_arm(arm: str, folder: Path, parameters: int) -> None:
    """Do one aggregation in this process and print seconds, peak bytes over the start, and the first values of the result as JSON."""
    found = places(folder)
    values = np.zeros(1)
    if arm == "flower":
        wall_s, peak, values = _flower(folder, parameters)
    elif arm == "copy":
        size = bytes_of(parameters)
        buffer = bytearray(size)
        before, began = _mark(), time.perf_counter()
        for path, begin in found:
            with open(path, "rb", buffering=0) as file:
                file.seek(begin)
                if file.readinto(buffer) != size:
                    raise SystemExit("a file is too short")
        wall_s, peak = time.perf_counter() - began, _peak() - before
    else:
        strategy, spool = built(arm), spool_of(folder)
        current = {key: np.zeros(like.shape, like.dtype) for key, like in layout(parameters).items()}
        for value in current.values():
            value += np.float32(0.5)
        own = {key: np.array(value) for key, value in strategy.start(current).items()}
        before, began = _mark(), time.perf_counter()
        result, own = strategy.aggregate(current, own, spool)
        wall_s, peak = time.perf_counter() - began, _peak() - before
        values = result[sorted(result)[0]]
    print(json.dumps({"wall_s": wall_s, "peak": peak, "values": np.asarray(values[:1000], float).tolist()}))


def _flower(folder: Path, parameters: int) -> tuple[float, int, np.ndarray]:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    before = _mark()
    known: dict[int, ArrayRecord] = {}
    records = []
    for state, weight in zip(states(folder, parameters), weights_of(len(places(folder))), strict=True):
        if id(state) not in known:
            known[id(state)] = ArrayRecord({key: Array(value) for key, value in state.items()})
            state.clear()  # the record has copies
        records.append(RecordDict({"state": known[id(state)], "numbers": MetricRecord({"num-examples": weight})}))
    began = time.perf_counter()
    result = aggregate_arrayrecords(records, "num-examples")
    wall_s = time.perf_counter() - began
    return wall_s, _peak() - before, result[sorted(result)[0]].numpy().reshape(-1)


def _mark() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is held now
    return _peak()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(sites: int, parameters: int, repeats: int, only: str, budget: int) -> list[list[str]]:
    """Run all arms in turns and return the rows of the table.

    Raises
    ------
    SystemExit
        Ours and Flower's means differ by more than 1e-6 of the largest value.
    """
    model = bytes_of(parameters)
    whole = sites * model <= budget
    groups = rows_of(only, sites, whole)
    arms = ["copy", "flower", *(group[0] for group in groups)]
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    peaks, values = dict.fromkeys(arms, 0), {}
    with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
        write_replies(Path(folder), sites, parameters, budget)
        for _ in range(repeats):
            for arm in arms:
                command = [sys.executable, "-m", "bench.aggregation", "--arm", arm, folder, str(parameters)]
                run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
                if run.returncode:
                    raise SystemExit(f"{arm}: {run.stderr}")
                answer = json.loads(run.stdout)
                seconds[arm].append(answer["wall_s"])
                peaks[arm] = max(peaks[arm], answer["peak"])
                values[arm] = np.array(answer["values"])
    if MEAN in values and whole:
        difference = float(np.abs(values[MEAN] - values["flower"]).max() / np.abs(values["flower"]).max())
        if not difference <= 1e-6:
            raise SystemExit(f"ours and Flower's mean differ by {difference:.2g}")
    rows = []
    for names in [["copy"], ["flower"], *groups]:
        arm, name = names[0], " ".join(names)
        copied, faster = ratios(seconds[arm], seconds["copy"]), ratios(seconds["flower"], seconds[arm])
        memory = peaks[arm] / model
        goals = ["", "", ""]
        if arm == MEAN and parameters > SMALL:
            goals = [f" {against(1.5, copied)}", f" {against(3, faster, at_least=True)}", f" {against(3, [memory])}"]
        rows.append(
            [
                name,
                spread(seconds[arm], 3),
                "" if arm == "copy" else spread(copied) + goals[0],
                "" if arm in ("copy", "flower") else spread(faster, 1) + goals[1],
                f"{'' if whole or arm != 'flower' else '> '}{memory:.2f}{goals[2]}",
            ]
        )
    return rows


def combined(sites: int, repeats: int) -> list[list[str]]:
    """Time the two strategies of models without gradients: their contributions are counts and trees, not millions of parameters."""
    from server.strategies.replies import Spool
    from shared_models.classical import CLASSICAL

    rng = np.random.default_rng(0)
    rows = []
    for name, model in (("exact_sum", CLASSICAL["logistic"].build(200, 5)), ("union", CLASSICAL["forest"].build(200, 5))):
        x, y = rng.standard_normal((300, 200)), np.arange(300) % 5
        state = model.start(seed=0)
        if name == "exact_sum":
            state = {**state, "ready": np.ones(1)}
        reply = model.contribution(state, x, y, seed=0)
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            spool = Spool(Path(folder) / "r1")
            for site in range(sites):
                spool.add(f"site{site:03d}", reply, num_cases=20 + site, steps=1)
            seconds = []
            for _ in range(repeats):
                began = time.perf_counter()
                STRATEGIES[name].build(model).aggregate(state, {}, spool)
                seconds.append(time.perf_counter() - began)
        rows.append([f"{name}, {sum(v.nbytes for v in reply.values()) / 1e6:.1f} MB x {sites}", spread(seconds, 3)])
    return rows


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.aggregation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sites", default="4,16,64")
    parser.add_argument("--parameters", default=FULL)
    parser.add_argument("--only", default="", help="names of strategies; by default all")
    parser.add_argument("--budget-mb", type=int, default=2000, help="bytes of replies that are real files")
    parser.add_argument("--smoke", action="store_true", help="a small model, a few sites and strategies, once: does it run at all?")
    parser.add_argument("--arm", nargs=3, metavar=("ARM", "FOLDER", "PARAMETERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        run_arm(options.arm[0], Path(options.arm[1]), int(options.arm[2]))
        return
    heading("aggregation of the spooled replies of a round")
    sizes = [SMALL] if options.smoke else [int(text) for text in options.parameters.split(",")]
    numbers = [5] if options.smoke else [int(text) for text in options.sites.split(",")]
    repeats, only = (1, options.only or "fedavg,trimmed_mean") if options.smoke else (options.repeats, options.only)
    for size in sizes:
        for sites in numbers:
            rows = measure(sites, size, repeats, only, options.budget_mb * 10**6)
            table([f"{size:,} parameters x {sites} sites", "seconds", "/ copy", "Flower's / it", "models of memory"], rows)
    if not options.only:
        table(["contributions to models without gradients", "seconds"], [row for sites in numbers for row in combined(sites, repeats)])


if __name__ == "__main__":
    main()
