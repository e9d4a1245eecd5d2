"""What pretraining without labels is worth where few patients are diagnosed, and what training less of a network costs and saves.

python -m bench.adaptation [--out runs/adaptation] [--seeds N] [--patients N] [--smoke]

`masked_pretraining` is federated once over hospitals of N patients each whom nobody has diagnosed; then `masked_finetuned`, with a tenth of them
diagnosed, is federated in four ways from equal seeds and judged on a hospital that never trained:

    scratch, whole         drawn weights, all of them trained
    pretrained, whole      the pretrained encoder, all weights trained
    pretrained, LoRA       the pretrained encoder rests; additions of rank 2 to its convolutions, and what lies behind it, are trained and sent
    pretrained, head       the pretrained encoder rests; what lies behind it is trained and sent

Finished federations in the folder are not run again. ``--smoke`` runs small ones: does it run at all?
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from bench.timing import ROOT, heading, table
from shared_models.core.choices import apply_overrides, validated
from shared_models.core.files import read_json, sha256_file, write_json
from shared_models.experiment import Experiment
from shared_models.pretrained import FOLDER
from sim.comparison.cell import run_cell
from sim.comparison.ground import ground_of
from sim.experiments import find
from sim.federation import federate_in_pool
from sim.pool import Pool
from sim.progress import Progress

PRETRAINING, DIAGNOSIS = "masked_pretraining", "masked_finetuned"
BEHIND = ("encoder.project.*", "position.*", "attention.*", "head.*")
"""Arrays of the diagnosis network that no pretraining has seen."""
LORA = {"rank": 2, "layers": ["encoder.maps.*"], "also": list(BEHIND)}
ARMS = ("scratch, whole", "pretrained, whole", "pretrained, LoRA", "pretrained, head")
LEAST = 10
"""With fewer patients a hospital takes part in nothing."""
TINY = ("simulation.defaults.grid_mm=6.0", "simulation.defaults.resolution=7.0", "federation.rounds=1", "train.epochs=1")


def sized(experiment: Experiment, patients: int, away: int) -> Experiment:
    """Return an experiment with so many patients at each hospital that trains and at the one that does not."""
    document = experiment.model_dump(mode="json", exclude_none=True)
    for hospital in document["simulation"]["hospitals"]:
        hospital["patients"] = away if hospital["name"] in document["simulation"]["held_out"] else patients
    return validated(Experiment, document, what=experiment.name)


def pretrain(experiment: Experiment, out: Path, processes: int, progress: Progress) -> Path:
    """Federate the pretraining; return the folder with its weights."""
    folder = out / "pretraining"
    if not (folder / "model.safetensors").exists():
        (fold,) = ground_of(experiment, folder, data=None, processes=processes, progress=progress)
        with Pool(processes, experiment=experiment.for_sites().to_json()) as pool:
            federate_in_pool(experiment, list(fold.train), folder / "federation", pool)
        shutil.copyfile(folder / "federation" / "final.safetensors", folder / "model.safetensors")
    return folder


def arm_of(arm: str, experiment: Experiment, weights: Path, seed: int) -> Experiment:
    """Return the diagnosis experiment of an arm and a seed."""
    document: dict[str, Any] = experiment.model_dump(mode="json", exclude_none=True) | {"seed": seed}
    if arm == "scratch, whole":
        del document["model"]["weights"]
    else:
        document["model"]["weights"]["sha256"] = sha256_file(weights / "model.safetensors")
    if arm == "pretrained, LoRA":
        document["model"]["lora"] = LORA
    if arm == "pretrained, head":
        document["stages"] = [{"rounds": document["federation"]["rounds"], "train_only": list(BEHIND)}]
    return validated(Experiment, apply_overrides(document, []), what=arm)


def run(experiment: Experiment, ground: Experiment, out: Path, name: str, processes: int, progress: Progress) -> dict[str, Any]:
    """Return the figures of one federation; what is finished is read. The hospitals are those of `ground`, whatever the seed of training."""
    folder = out / f"{name}-{experiment.digest[:12]}"
    if not (folder / "cell.json").exists():
        folds = ground_of(ground, out / "diagnosed", data=None, processes=processes, progress=progress)
        with Pool(processes, experiment=experiment.for_sites().to_json()) as pool:
            write_json(folder / "cell.json", run_cell(experiment, folds, folder, pool, told=progress.bar(name)), durable=False)
    return read_json(folder / "cell.json")


def measure(out: Path, seeds: int, patients: int, processes: int, settings: tuple[str, ...] = ()) -> None:
    """Run everything and print the table."""
    with Progress(quiet=False) as progress:
        unlabelled = sized(find(PRETRAINING, list(settings)), patients, 5)
        weights = pretrain(unlabelled, out, processes, progress)
        os.environ[FOLDER] = str(weights.resolve())
        ground = sized(find(DIAGNOSIS, list(settings)), max(LEAST, patients // 10), 4 if settings else 60)
        found = {
            arm: [run(arm_of(arm, ground, weights, seed), ground, out, arm.replace(", ", "-"), processes, progress) for seed in range(seeds)]
            for arm in ARMS
        }
    heading(f"{patients} patients a hospital, {max(LEAST, patients // 10)} diagnosed, 3 hospitals; {seeds} seeds; unseen phantoms of a fourth")
    rows = []
    for arm, cells in found.items():
        values = [cell["metrics"]["auroc_macro"] for cell in cells]
        sent = mean(cell["bytes"] / cell["rounds"] for cell in cells) / 1e3
        told = [mean(values), min(values), max(values), mean(cell["metrics"]["accuracy"] for cell in cells)]
        rows.append([arm, *(f"{value:.3f}" for value in told), f"{sent:.0f}"])
    table(["arm", "AUROC, mean", "least", "most", "accuracy", "kB a round, both ways"], rows)
    write_json(out / "adaptation.json", {arm: [cell["metrics"] for cell in cells] for arm, cells in found.items()}, durable=False)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.adaptation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "adaptation")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            measure(Path(folder), 1, 16, 1, TINY)
        return
    measure(options.out, options.seeds, options.patients, options.processes)


if __name__ == "__main__":
    main()
