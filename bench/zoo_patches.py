"""Every patch-capable system on real HRCT patches: five uneven sites, five folds, mean recall of the federated model.

python -m bench.zoo_patches [--only NAMES] [--out runs/zoo-patches] [--processes N] [--smoke]

Needs FEDILD_REAL_DATA. The patches have no patient identifiers: patches of one patient may lie on both sides of a split, so the figures are about
patches and likely too good. All systems share the same folds and sites; small widths, fitting a processor. Finished systems in the folder are not
run again. Exit code 1 when the best stays below 0.82. ``--smoke`` runs three systems on synthetic textures for a round: does it run at all?
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from bench.timing import ROOT, heading, table
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import score
from sim.check import faults
from sim.comparison.cell import read_predictions, run_cell
from sim.comparison.ground import Fold, ground_of
from sim.experiments import find
from sim.pool import Pool
from sim.progress import Progress

LEAST = 0.82
CNN, SUMS = "emphysema_patches_cnn", "emphysema_patches"
WINDOW = ("inputs.window_hu=[-1000,-500]",)
"""Of networks that read values from 0 to 1: emphysema lies low."""
SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "texture_kernel": (SUMS, ()),
    "placed_kernel": ("emphysema_patches_placed", ()),
    "svm": ("emphysema_patches_svm", ()),
    "forest": ("emphysema_patches_forest", ()),
    "patch_cnn": (CNN, ()),
    "ild_cnn": (CNN, ('model={name="ild_cnn"}', "train.optimiser.lr=0.003")),
    "mil_cnn": (CNN, ('model={name="mil_cnn",widths=[16,32,64],features=64}', "train.optimiser.lr=0.003", *WINDOW)),
    "attention_cnn": (CNN, ('model={name="attention_cnn",width=16,features=64}', "train.optimiser.lr=0.003", *WINDOW)),
    "compact_vgg": (CNN, ('model={name="compact_vgg",width=16,features=64}', "train.optimiser.lr=0.003", *WINDOW)),
    "mufinet": (CNN, ('model={name="mufinet",width=8,features=64}', "train.optimiser.lr=0.003", *WINDOW)),
    "pmff_net": (CNN, ('model={name="pmff_net",widths=[16,32],blocks=1,features=64}', "train.optimiser.lr=0.003", *WINDOW)),
    "vit": (CNN, ('model={name="vit",patch=8,width=64,depth=2,heads=4,grid=4}', "train.optimiser.lr=0.003", *WINDOW)),
}
"""System to the experiment that it runs in and what differs. Networks with more strides need at least 32 pixels: a patch has 31."""
UNITED: dict[str, tuple[str, ...]] = {"placed_kernel + patch_cnn": ("placed_kernel", "patch_cnn")}
"""Systems whose released models vote, each the same: the mean of their probabilities, as `fedild` unites models of several seeds."""


def experiment_of(name: str, settings: tuple[str, ...] = ()) -> Experiment:
    """Return the experiment of a system."""
    base, own = SYSTEMS[name]
    experiment = find(base, [*own, *settings])
    if wrong := faults(experiment):
        raise SystemExit(f"{name}: {wrong}")
    return experiment


def out_of(name: str, settings: tuple[str, ...], out: Path) -> Path:
    """Return the folder of a system's figures."""
    return out / f"{name}-{experiment_of(name, settings).digest[:12]}"


def united(classes: tuple[str, ...], cells: list[Path]) -> tuple[float, float, str]:
    """Return mean recall and AUROC of the mean of several systems' probabilities, mean over folds, and the folds' least and greatest recall."""
    answers = [read_predictions(cell) for cell in cells]
    found = []
    for fold, (labels, first, names) in answers[0].items():
        others = [dict(zip(answer[fold][2], answer[fold][1], strict=True)) for answer in answers[1:]]
        told = np.mean([first, *([other[patch] for patch in names] for other in others)], axis=0)
        found.append(score(labels, told, classes, metrics=("mean_recall", "auroc_macro"), bootstrap=0))
    recall, auroc = ([one[metric]["value"] for one in found] for metric in ("mean_recall", "auroc_macro"))
    return float(np.mean(recall)), float(np.mean(auroc)), f"{min(recall):.3f} - {max(recall):.3f}"


def run(name: str, experiment: Experiment, folds: list[Fold], out: Path, processes: int, progress: Progress) -> dict[str, Any]:
    """Return the figures of a system; what is finished is read."""
    folder = out / f"{name}-{experiment.digest[:12]}"
    if not (folder / "cell.json").exists():
        with Pool(processes, experiment=experiment.for_sites().to_json()) as pool:
            write_json(folder / "cell.json", run_cell(experiment, folds, folder, pool, told=progress.bar(name)), durable=False)
    return read_json(folder / "cell.json")


def measure(names: list[str], out: Path, data: Path | None, processes: int, settings: tuple[str, ...] = ()) -> float:
    """Run, print the table, return the best mean recall."""
    rows, best = [], 0.0
    with Progress(quiet=False) as progress:
        folds = ground_of(experiment_of("patch_cnn", settings), out / "ground", data=data, processes=processes, progress=progress)
        for name in names:
            try:
                cell = run(name, experiment_of(name, settings), folds, out, processes, progress)
            except Exception as error:  # one that fails stops nothing
                rows.append((-1.0, [name, f"failed: {' '.join(str(error).split())[:80]}", "", "", "", ""]))
                continue
            values = [value for value in cell["tests"].values() if value is not None]
            best = max(best, cell["value"])
            spread = f"{min(values):.3f} - {max(values):.3f}"
            sent = f"{cell['bytes'] / cell['rounds'] / 1e6:.2f}"
            rows.append(
                (cell["value"], [name, f"{cell['value']:.3f}", spread, f"{cell['metrics']['auroc_macro']:.3f}", sent, f"{cell['wall_s']:.0f}"])
            )
    for name, members in UNITED.items():
        if set(members) <= set(names):
            if any(not (out_of(one, settings, out) / "predictions.json").exists() for one in members):
                continue  # one of them failed, which its own line tells
            value, auroc, spread = united(experiment_of(members[0], settings).data.classes, [out_of(one, settings, out) for one in members])
            best = max(best, value)
            rows.append((value, [name, f"{value:.3f}", spread, f"{auroc:.3f}", "", ""]))
    heading("Real HRCT patches, 5 sites (Dirichlet 0.5), 5 folds: federated model on held-out patches")
    table(["system", "mean recall", "folds", "AUROC", "MB a round", "s in rounds"], [row for _, row in sorted(rows, key=lambda row: -row[0])])
    write_json(out / "patches.json", {row[0]: row[1:] for _, row in rows})
    return best


def textures(folder: Path) -> tuple[str, ...]:
    """Write synthetic patches of two classes; return the settings that make of every experiment a small one over them."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 160)
    hu = rng.normal(np.where(label, -700, -900)[:, None, None], 60, (160, 31, 31)).astype(np.int16)
    np.savez(folder / "patches.npz", hu=hu, label=np.array(["dark", "bright"])[label])
    simulation = tomli_w.dumps({"kind": "patches", "source": "patches.npz", "sites": 3, "alpha": 5.0}).strip().replace("\n", ", ")
    small = ('data.classes=["dark","bright"]', "federation.rounds=1", "federation.quorum=3", "evaluation.folds=2", f"simulation={{{simulation}}}")
    return small


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.zoo_patches", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", default=",".join(SYSTEMS))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "zoo-patches")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            measure(["patch_cnn", "attention_cnn", "forest"], Path(folder) / "out", Path(folder), 1, textures(Path(folder)))
        return
    data = os.environ.get("FEDILD_REAL_DATA")
    if not data:
        raise SystemExit("this bench needs real data: name their folder in FEDILD_REAL_DATA, or give --smoke")
    best = measure(options.only.split(","), options.out, Path(data), options.processes)
    print(f"goal: best mean recall of at least {LEAST}: {'met' if best >= LEAST else 'MISSED'} ({best:.3f})")
    sys.exit(0 if best >= LEAST else 1)


if __name__ == "__main__":
    main()
