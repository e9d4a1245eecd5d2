"""The published table of the heart data: our strategies beside FLamby's figures, and a configuration tuned on training patients alone.

python -m bench.heart_table [--seeds 5] [--out runs/heart-table]

1. Tuning: every candidate is cross-validated over five folds of the hospitals' TRAINING patients (`fedild compare` with
   ``evaluation.folds = 5``; the test patients are not in those files). The candidate with the best mean is taken.
2. Test: FLamby's split, model, 15 rounds of 100 steps, batch 4; the strategies with FLamby's own knobs, and the tuned candidate.

The figure is the mean over the four hospitals of the accuracy on their own test patients. Finished cells in the folder are used again. Exit
code 1 when a strategy lies further than two standard deviations from FLamby's figure, or the tuned one misses its goals.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.timing import ROOT, heading, table
from shared_models.core.files import read_json
from sim.compare import compare
from sim.comparison.arms import arms_of
from sim.experiments import find

EXPERIMENT = "heart_disease"
OPT = "tau=1e-8:beta_2=0.999"
PUBLISHED: dict[str, tuple[str, tuple[float, ...]]] = {
    "FedAvg": ("fedavg:train.optimiser.lr=0.001", (0.6915, 0.7199, 0.6427, 0.6943, 0.6765)),
    "FedProx": ("fedprox:mu=0.01:train.optimiser.lr=0.001", (0.6915, 0.7199, 0.6427, 0.6943, 0.6765)),
    "SCAFFOLD": ("scaffold:train.optimiser.lr=0.001", (0.6891, 0.7199, 0.6427, 0.6919, 0.6765)),
    "FedAdam": (f"fedadam:eta=0.01:{OPT}:train.optimiser.lr=0.01", (0.7212, 0.7115, 0.7461, 0.7322, 0.7167)),
    "FedYogi": (f"fedyogi:eta=0.01:{OPT}:train.optimiser.lr=0.003162", (0.7240, 0.7194, 0.7513, 0.7350, 0.7271)),
}
"""Each method with FLamby's knobs, and FLamby's mean accuracy over clients with seeds 42 to 46: computed from the rows ``client_test_0`` to
``client_test_3`` of ``flamby/results/results_benchmark_fed_heart_disease/heart_seed4*.csv`` of its repository (MIT)."""
BEST_FEDERATED, POOLED = 0.731, 0.735
"""FLamby's best federated figure and its pooled one: what the tuned configuration must beat, and reach."""
CANDIDATES = (
    *(f"fedavg:train.optimiser.lr={lr}" for lr in (0.001, 0.003, 0.01, 0.03, 0.1)),
    *(f"fedyogi:eta={eta}:{OPT}:train.optimiser.lr=0.01" for eta in (0.01, 0.03)),
    *(f'fedper:personal=["0.bias"]:train.optimiser.lr={lr}' for lr in (0.003, 0.01, 0.03)),
    "ditto:pull=0.1:train.optimiser.lr=0.003",
)
"""What is tuned: local rates, the server's rate where there is one, and two personal ways (case mix differs: 38 to 98 % have the disease): an
intercept of its own at each hospital, or a whole model of its own."""
FOLDS = 5


def run(words: str, out: Path, data: Path, *, seeds: int, settings: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Run a comparison and return its arms."""
    experiment = find(EXPERIMENT, [*settings])
    compare(experiment, arms_of(words, experiment), out, seeds=seeds, data=data)
    return read_json(out / "compare.json")["arms"]


def accuracy(arm: dict[str, Any]) -> dict[str, Any]:
    """Return an arm's accuracy over its seeds."""
    if not arm["finished"]:
        raise SystemExit(f"{arm['label']} failed: {arm['cells'][0]['error']}")
    return arm["metrics"]["accuracy"]


def tune(out: Path, data: Path) -> str:
    """Print the cross-validation and return the best candidate."""
    heading(f"Tuning: accuracy, mean of hospitals, {FOLDS} folds of the training patients")
    arms = run(",".join(CANDIDATES), out, data, seeds=1, settings=(f"evaluation.folds={FOLDS}", "evaluation.bootstrap=0"))
    values = {word: accuracy(arm)["value"] for word, arm in zip(CANDIDATES, arms, strict=True)}
    table(["candidate", "cross-validated accuracy"], [[word, f"{value:.4f}"] for word, value in values.items()])
    chosen = max(values, key=lambda word: values[word])
    print(f"chosen: {chosen}\n")
    return chosen


def main() -> None:
    """Tune, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m bench.heart_table", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "heart-table")
    options = parser.parse_args()
    data = os.environ.get("FEDILD_REAL_DATA")
    if not data:
        raise SystemExit("this bench needs real data: name their folder in FEDILD_REAL_DATA")
    chosen = tune(options.out / "tuning", Path(data))
    words = [word for word, _ in PUBLISHED.values()]
    heading("Test patients of the four hospitals: accuracy, mean of hospitals")
    arms = run(",".join([*words, *([chosen] if chosen not in words else [])]), options.out / "test", Path(data), seeds=options.seeds)
    met, rows = [], []
    for (name, (_, theirs)), arm in zip(PUBLISHED.items(), arms, strict=False):
        ours, mean, sd = accuracy(arm), statistics.mean(theirs), statistics.stdev(theirs)
        away = (ours["value"] - mean) / sd
        met.append(abs(away) <= 2)
        rows.append([name, _shown(ours), f"{mean:.3f} ± {sd:.3f}", f"{away:+.1f}", "met" if met[-1] else "MISSED"])
    tuned = accuracy(arms[words.index(chosen) if chosen in words else -1])
    met += [tuned["value"] > BEST_FEDERATED, tuned["value"] >= POOLED]
    said = f"beats {BEST_FEDERATED}: {'met' if met[-2] else 'MISSED'}; reaches {POOLED}: {'met' if met[-1] else 'MISSED'}"
    rows.append(["tuned", _shown(tuned), "-", "-", said])
    table(["method", "ours, mean ± sd of seeds", "FLamby", "FLamby's sd away", "goal"], rows)
    print(f"tuned: {chosen}\npage: {options.out / 'test' / 'compare.html'}")
    sys.exit(0 if all(met) else 1)


def _shown(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.3f}")


if __name__ == "__main__":
    main()
