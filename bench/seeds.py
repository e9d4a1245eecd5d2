"""The main job with several seeds: wall time, figures on the held-out hospital, and whether the goals are met.

python -m bench.seeds [--seeds 0,1,2] [--out runs] [--experiment fibrosis] [--set KEY=VALUE ...] [--smoke]

A finished run in ``<out>/seed-<n>`` is used again; an interrupted one is continued. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w

from bench.timing import ROOT, heading, table
from shared_models.core.files import read_json
from sim.experiments import find

LEAST = 0.90
MORE_THAN_ALONE = 0.03
NEAR_POOLED = 0.05


def run(experiment: str, seed: int, out: Path, settings: list[str]) -> dict[str, Any]:
    """Return the metrics of the run with `seed`, which is made when it is not there.

    Raises
    ------
    SystemExit
        The run failed.
    """
    if not (out / "report.html").exists():
        words = [sys.executable, "-m", "sim.cli", "simulate", experiment, "--out", str(out), "--seed", str(seed), "--quiet"]
        words += [word for setting in settings for word in ("--set", setting)] + (["--resume"] if out.exists() else [])
        if code := subprocess.run(words, cwd=ROOT).returncode:
            raise SystemExit(code)
    return read_json(out / "metrics.json")


def judge(metrics: dict[str, Any], wall_s: float) -> tuple[list[str], bool]:
    """Return the row of one run and whether all its goals are met.

    >>> held = lambda value: {"held_out": {"auroc_macro": {"value": value, "low": value - 0.01, "high": value + 0.01}}}
    >>> figures = {"seed": 0, "federated": held(0.95), "pooled": held(0.96), "local_only": {"a": held(0.80)}}
    >>> judge(figures, 60.0)
    (['0', '60', '0.950 (0.940 - 0.960)', '0.800', '0.960 (0.950 - 0.970)', 'met', 'met', 'met'], True)
    """

    def figure(model: dict[str, Any]) -> dict[str, Any]:
        return model["held_out"]["auroc_macro"]

    federated, pooled = figure(metrics["federated"]), figure(metrics["pooled"])
    alone = statistics.mean(figure(model)["value"] for model in metrics["local_only"].values())
    goals = [
        federated["value"] >= LEAST,
        federated["value"] >= alone + MORE_THAN_ALONE,
        federated["value"] >= pooled["value"] - NEAR_POOLED,
    ]
    cells = [f"{wall_s:.0f}", _shown(federated), f"{alone:.3f}", _shown(pooled), *("met" if goal else "MISSED" for goal in goals)]
    return [str(metrics["seed"]), *cells], all(goals)


def _shown(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} - {figure['high']:.3f})"


def small(experiment: str, path: Path) -> str:
    """Write a copy of an experiment with a few coarse patients and one round, and return its path."""
    document = find(experiment, []).model_dump(mode="json", exclude_none=True)
    away = document["simulation"]["held_out"][0]
    hospitals = document["simulation"]["hospitals"]
    kept = [*[h for h in hospitals if h["name"] not in document["simulation"]["held_out"]][:2], *[h for h in hospitals if h["name"] == away]]
    document["simulation"] |= {
        "held_out": [away],
        "hospitals": [{"name": h["name"], "scanner": h["scanner"], "patients": 16} for h in kept],
        "defaults": {"resolution": 6.0, "grid_mm": 6.0},
    }
    document["federation"] |= {"rounds": 1, "quorum": 2}
    document["evaluation"]["bootstrap"] = 20
    path.write_text(tomli_w.dumps(document))
    return str(path)


def measure(experiment: str, seeds: list[int], out: Path, settings: list[str]) -> bool:
    """Run all seeds, print the table and return whether every goal is met."""
    rows, met = [], []
    for seed in seeds:
        here = out / f"seed-{seed}"
        metrics = run(experiment, seed, here, settings)
        row, good = judge(metrics, sum(read_json(here / "times.json").values()))
        rows.append(row)
        met.append(good)
    goals = [f">= {LEAST:.2f}", f">= alone + {MORE_THAN_ALONE}", f"within {NEAR_POOLED} of pooled"]
    table(["seed", "wall s", "federated", "alone, mean", "pooled", *goals], rows)
    return all(met)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.seeds", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=ROOT / "runs")
    parser.add_argument("--experiment", default="fibrosis")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--smoke", action="store_true", help="one seed, a few coarse patients, one round, in a temporary folder: does it run at all?")
    options = parser.parse_args()
    heading(f"{options.experiment}: macro AUROC on the held-out hospital, with its 95 % interval")
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            measure(small(options.experiment, Path(folder) / "small.toml"), [0], Path(folder), options.settings)
        return
    if not measure(options.experiment, [int(text) for text in options.seeds.split(",")], options.out, options.settings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
