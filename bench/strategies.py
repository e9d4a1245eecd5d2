"""Where strategies matter: phantoms under strong label skew, under scanner shift and under both, and real HRCT patches spread by a Dirichlet of 0.1.

python -m bench.strategies [--seeds N] [--patch-seeds N] [--only label_skew,scanner_shift,skew_and_shift,patches] [--methods NAME...] [--out FOLDER]

Phantoms: every method may choose its local rate among the same two, by its figure on the held-out hospital with a tuning seed (other
phantoms than those of the test seeds); then all run with the test seeds, and a method beats FedAvg when its mean AUROC on the held-out hospital
is at least 0.02 higher with p < 0.05 (paired t-test over seeds). Patches: all methods with the knobs that they ship with, without a goal; patches
have no patient identifiers, so these figures are about patches. Finished cells in the folder are used again. Exit code 1 when nothing beats FedAvg.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from bench.timing import ROOT, heading, table
from server.strategies import STRATEGIES
from shared_models.core.files import read_json
from sim.compare import compare
from sim.comparison.arms import arms_of
from sim.experiments import find

PHANTOMS = ("label_skew", "scanner_shift", "skew_and_shift")
METHODS = ("fedavg", "fedyogi:eta=0.03", "scaffold", "fedavgm", "fedadam:eta=0.03", "feddyn", "moon", "fedprox:mu=0.1")
"""The first is the one to beat."""
RATES = (0.05, 0.2)
TUNING_SEED, TUNING_SEEDS = 100, 1
LEAST, SURE = 0.02, 0.05
PATCHES = ("simulation.alpha=0.1", "evaluation.validation=0.2", "evaluation.folds=2", "federation.rounds=10")
NEEDED = {"one_shot": ":federation.rounds=1:train.epochs=10"}
"""What a method must be told: all training in one round."""


def run(name: str, words: str, out: Path, *, seeds: int, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a comparison and return what it found."""
    experiment = find(name, [*settings])
    data = os.environ.get("FEDILD_REAL_DATA")
    compare(experiment, arms_of(words, experiment), out, seeds=seeds, data=Path(data) if data else None)
    return read_json(out / "compare.json")


def tuned(name: str, out: Path, methods: list[str]) -> list[str]:
    """Return every method with the local rate that did best with the tuning seeds."""
    words = {method: [f"{method}:train.optimiser.lr={rate}" for rate in RATES] for method in methods}
    every = [word for of_one in words.values() for word in of_one]
    settings = (f"seed={TUNING_SEED}", "evaluation.bootstrap=0")
    arms = run(name, ",".join(every), out, seeds=TUNING_SEEDS, settings=settings)["arms"]
    found = {word: arm["metrics"]["auroc_macro"]["value"] if arm["finished"] else None for word, arm in zip(every, arms, strict=True)}
    heading(f"{name}: held-out AUROC by local rate, tuning seed {TUNING_SEED}")
    table(["method", *(f"lr {rate}" for rate in RATES)], [[method, *(_shown(found[word]) for word in words[method])] for method in methods])
    return [max(words[method], key=lambda word: found[word] or 0.0) for method in methods]


def phantoms(name: str, out: Path, seeds: int, methods: list[str]) -> bool:
    """Tune, compare, print, and return whether a method beats FedAvg."""
    arms = run(name, ",".join(tuned(name, out / "tuning", methods)), out / "test", seeds=seeds)["arms"]
    heading(f"{name}: macro AUROC on the held-out phantom hospital, {seeds} seeds; page: {out / 'test' / 'compare.html'}")
    table(["method", "mean ± sd", "minus FedAvg (95 % over seeds)", "p", "p, Holm", "better with", "beats it"], [_row(arm) for arm in arms])
    return any(_beats(arm) for arm in arms)


def every_method() -> str:
    """Return the words for all methods of networks."""
    return ",".join(name + NEEDED.get(name, "") for name, spec in STRATEGIES.items() if spec.fit == "gradient")


def patches(out: Path, seeds: int) -> None:
    """Print the table of all methods on the real patches."""
    found = run("emphysema_patches_cnn", every_method(), out, seeds=seeds, settings=PATCHES)
    heading(f"Real HRCT patches, Dirichlet 0.1 over five sites: {seeds} seed(s), {', '.join(PATCHES)}; page: {out / 'compare.html'}")
    rows = []
    for arm in found["arms"]:
        if not arm["finished"]:
            rows.append([arm["label"], "failed", arm["cells"][0]["error"].split("\n")[-1].strip()[:80], "", ""])
            continue
        homes = [home["value"] for home in arm["homes"].values() if home["value"] is not None]
        at_home = f"{sum(homes) / len(homes):.3f}" if homes else "-"
        known = [_shown(arm["metrics"][name]["value"]) for name in ("mean_recall", "auroc_macro")]
        rows.append([arm["label"], *known, at_home, f"{arm['bytes'] / 1e6:.1f} MB"])
    table(["method", "mean recall, held-out folds", "AUROC", "mean recall at home", "sent by the sites"], rows)


def _beats(arm: dict[str, Any]) -> bool:
    against = arm["against"]
    return bool(against and against["value"] is not None and against["value"] >= LEAST and against["p"] is not None and against["p"] < SURE)


def _row(arm: dict[str, Any]) -> list[str]:
    if not arm["finished"]:
        return [arm["label"], "failed", "", "", "", "", ""]
    over, against = arm["metrics"]["auroc_macro"], arm["against"]
    cells = [arm["label"], f"{_shown(over['value'])} ± {_shown(over['sd'])}"]
    if against is None:
        return [*cells, "", "", "", "", ""]
    ends = f"{against['value']:+.3f} ({_shown(against['low'])} to {_shown(against['high'])})"
    return [*cells, ends, _shown(against["p"]), _shown(against["p_holm"]), f"{against['wins']} of {against['n']}", "yes" if _beats(arm) else "no"]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def main() -> None:
    """Run what is asked for, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m bench.strategies", description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patch-seeds", type=int, default=1)
    parser.add_argument("--only", default=",".join((*PHANTOMS, "patches")))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="of the phantoms, with knobs; the first is the one to beat")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "strategies")
    options = parser.parse_args()
    wanted = options.only.split(",")
    met = {name: phantoms(name, options.out / name, options.seeds, options.methods) for name in PHANTOMS if name in wanted}
    if "patches" in wanted:
        patches(options.out / "patches", options.patch_seeds)
    for name, good in met.items():
        print(f"{name}: a method beats FedAvg by {LEAST} AUROC with p < {SURE}: {'met' if good else 'MISSED'}")
    sys.exit(0 if all(met.values()) else 1)


if __name__ == "__main__":
    main()
