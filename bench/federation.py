"""The default backend against a plain PyTorch loop and against Flower on Ray: whole processes, four sites, the same steps.

python -m bench.federation [--repeats N] [--only trivial|densenet121] [--processes N] [--without-ray] [--default-threads] [--smoke]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree

from bench.sites import WORKS, Work, make_sites
from bench.timing import ROOT, Arm, against, heading, in_turns, ratios, spread, table
from server.runs.log import read_rounds

ONE_THREAD: dict[str, str | None] = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ALL_THREADS: dict[str, str | None] = dict.fromkeys(ONE_THREAD)
POOL, RAY, PLAIN, PLAIN_THREADS = "default backend", "Flower on Ray", "plain loop, one thread", "plain loop, default threads"
GOALS = {PLAIN: 0.85, PLAIN_THREADS: 0.85, RAY: 0.35}


def arms(folder: Path, processes: int, *, ray: bool, threads: bool) -> list[Arm]:
    """Return the arms over the sites in `folder`."""
    plain = [sys.executable, str(ROOT / "bench" / "plain_loop.py"), str(folder)]
    ours = [sys.executable, "-m", "bench.arms"]
    found = [
        Arm(POOL, [*ours, "pool", str(folder), str(processes)], ONE_THREAD, partial(rmtree, folder / "run-pool", ignore_errors=True)),
        Arm(PLAIN, plain, ONE_THREAD),
    ]
    if threads:
        found.append(Arm(PLAIN_THREADS, plain, ALL_THREADS))
    if ray:
        found.append(Arm(RAY, [*ours, "ray", str(folder), str(processes)], ONE_THREAD, partial(rmtree, folder / "run-ray", ignore_errors=True)))
    return found


def steps_taken(folder: Path) -> dict[str, int]:
    """Return the gradient steps that each arm took in its last run, read from what it left."""
    found = {"plain": int((folder / "plain_steps").read_text())}
    for run in sorted(folder.glob("run-*")):
        found[run.name] = sum(site["steps"] for line in read_rounds(run / "rounds.jsonl") for site in line["sites"].values())
    return found


def measure(work: Work, *, repeats: int, processes: int, ray: bool, threads: bool) -> None:
    """Run one comparison and print its tables."""
    with tempfile.TemporaryDirectory(prefix="fedild-bench-") as temporary:
        folder = Path(temporary)
        make_sites(folder, work.experiment())
        heading(f"{work.name}: 4 sites x {work.rounds} rounds x {work.steps} steps of {work.batch}, {processes} processes, whole-process wall time")
        times = in_turns(arms(folder, processes, ray=ray, threads=threads), repeats=repeats)
        if len(set(steps_taken(folder).values())) != 1:
            raise SystemExit(f"the arms did not take the same steps: {steps_taken(folder)}")
    table(["arm", "seconds: median (range)", "peak MB, all processes"], [[name, spread(t.wall_s), f"{t.peak_mb:.0f}"] for name, t in times.items()])
    rows = []
    for name, goal in GOALS.items():
        if name in times:
            ratio = ratios(times[POOL].wall_s, times[name].wall_s)
            rows.append([f"{POOL} / {name}", spread(ratio), against(goal, ratio)])
    table(["ratio", "median (range)", "goal"], rows)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.federation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=sorted(WORKS), help="one of the two models")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--default-threads", action="store_true", help="the plain loop with PyTorch's own number of threads for both models")
    parser.add_argument("--smoke", action="store_true", help="one round of the trivial model, once, without Ray: does it run at all?")
    options = parser.parse_args()
    if options.smoke:
        measure(replace(WORKS["trivial"], rounds=1), repeats=0, processes=1, ray=False, threads=False)
        return
    for work in [WORKS[options.only]] if options.only else WORKS.values():
        # On a busy machine the default threads make the large model ten times slower: hours, if always measured.
        threads = options.default_threads or work.name == "trivial"
        measure(work, repeats=options.repeats, processes=options.processes, ray=not options.without_ray, threads=threads)


if __name__ == "__main__":
    main()
