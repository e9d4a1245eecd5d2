"""Arms of one system: a radial basis network on radiomics, an attention network on slices, and two ways to fuse them.

python -m bench.fusion_arms [--out runs/fusion] [--seeds 3] [--patients 30] [--smoke]

    RBF, swarm          tuned by particle swarm
    RBF, random search  tuned by as many places drawn at random: what the swarm is worth
    attention CNN       slices, no radiomics
    late mean           the mean of the probabilities of the swarm's network and of the attention network
    concat              a ridge regression on what the attention network hands its classifier and what the radial units say, fitted on the
                        hospitals' training patients by sums

All are federated over the same phantoms of the same hospitals and judged on the same patients of the hospital that nobody trained on; each seed
has phantoms of its own. Finished federations in the folder are not run again. ``--smoke`` runs small ones: does it run at all?
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.timing import ROOT, heading, table
from client.calibration import representation_of
from client.site import Site
from client.statistics import all_seen, seen_records
from client.training import PREDICTORS
from client.training.records import Records
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.classical.ridge import ridge
from shared_models.core.choices import validated
from shared_models.core.files import read_json, read_state, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import METRICS, score
from shared_models.metrics.scoring import compare
from shared_models.phases import trained
from sim.comparison.cell import run_cell
from sim.comparison.ground import Fold, ground_of
from sim.experiments import find
from sim.pool import Pool
from sim.progress import Progress

SWARM, RANDOM, NETWORK = "RBF, swarm", "RBF, random search", "attention CNN"
RECIPES = {SWARM: ("radiomics_rbf", ()), RANDOM: ("radiomics_rbf", ("model.search=random",)), NETWORK: ("attention_cnn", ())}
"""Arm to its recipe and what differs."""
RIDGE = 10.0
"""Penalty of the concatenated arm."""
SHOWN = ("accuracy", "balanced_accuracy", "auroc_macro", "brier")
SMOKE = ("simulation.defaults.grid_mm=6.0", "simulation.defaults.resolution=7.0")
SMALL = {
    SWARM: ("model.particles=2", "model.generations=1", "model.most_units=4", "federation.rounds=8"),
    RANDOM: ("model.particles=2", "model.generations=1", "model.most_units=4", "federation.rounds=8"),
    NETWORK: ("federation.rounds=1", "train.epochs=1"),
}


class Arm:
    """One federation's final model and what it sees of a site."""

    def __init__(self, experiment: Experiment, folds: list[Fold], folder: Path) -> None:
        self.experiment = experiment
        if not (folder / "cell.json").exists():
            with Pool(1, experiment=experiment.for_sites().to_json()) as pool:
                write_json(folder / "cell.json", run_cell(experiment, folds, folder, pool, told=lambda done, of: None), durable=False)
        self.seconds = float(read_json(folder / "cell.json")["wall_s"])
        self.state = read_state(folder / folds[0].name / "federation" / "final.safetensors")

    def records(self, site: Path, *, training: bool) -> Records:
        """Return a hospital's training patients, or all of them."""
        here = Site.load(site)
        return seen_records(here, self.experiment, self.state)[0] if training else all_seen(here, self.experiment, self.state)

    def probabilities(self, records: Records) -> np.ndarray:
        """Return what the arm says, shape (n, classes)."""
        return PREDICTORS[spec_of(self.experiment.model).fit](self.experiment, self.state, records)

    def inner(self, records: Records) -> np.ndarray:
        """Return what the arm makes of each record before it names a class, shape (n, width)."""
        if spec_of(self.experiment.model).fit == "gradient":
            return representation_of(self.experiment, self.state, records)
        model: Any = build(self.experiment.model, inputs=inputs_of(self.experiment), outputs=len(self.experiment.data.classes))
        return model.units(trained(self.state), records.inputs)[:, :-1]


def aligned(first: Records, second: Records) -> tuple[Records, Records]:
    """Return the same patients in the same order."""
    names = sorted(set(first.names) & set(second.names))
    if not len(names) == len(first) == len(second):
        raise SystemExit("all arms must have the same patients: prepare them with the same hospitals and seed")
    return first.take([first.names.index(name) for name in names]), second.take([second.names.index(name) for name in names])


def concatenated(arms: tuple[Arm, Arm], sites: tuple[Path, ...], away: list[Path]) -> np.ndarray:
    """Return probabilities of the fused model on the held-out hospitals, its ridge regression fitted by the sites' sums."""

    def joined(site: Path, *, training: bool) -> tuple[np.ndarray, np.ndarray]:
        first, second = (arm.records(site, training=training) for arm in arms)
        pair = aligned(first, second)
        return np.column_stack([arm.inner(records) for arm, records in zip(arms, pair, strict=True)]), pair[0].labels

    rows = [joined(site, training=True) for site in sites]
    model = ridge(rows[0][0].shape[1], len(arms[0].experiment.data.classes), ridge=RIDGE)
    state = model.start(seed=0)
    for _ in range(2):
        state = model.combine(state, [model.contribution(state, x, labels, seed=0) for x, labels in rows], [1.0] * len(rows))
    return np.concatenate([model.predict(state, joined(site, training=False)[0]) for site in away])


def experiments(seed: int, patients: int, settings: tuple[str, ...], small: dict[str, tuple[str, ...]]) -> dict[str, Experiment]:
    """Return the experiment of each arm, all over the same hospitals and with the same preparation."""
    found = {arm: find(recipe, [f"seed={seed}", *own, *small.get(arm, ())]) for arm, (recipe, own) in RECIPES.items()}
    document = find("radiomics_rbf", [f"seed={seed}", *settings]).model_dump(mode="json", exclude_none=True)
    for hospital in document["simulation"]["hospitals"]:
        hospital["patients"] = (2 if hospital["name"] in document["simulation"]["held_out"] else 1) * patients
    shared = {key: document[key] for key in ("simulation", "preparation")}
    return {arm: validated(Experiment, one.model_dump(mode="json", exclude_none=True) | shared, what=arm) for arm, one in found.items()}


def measure(out: Path, seed: int, patients: int, settings: tuple[str, ...] = (), small: dict[str, tuple[str, ...]] | None = None) -> dict[str, Any]:
    """Federate the arms with a seed and return each one's figures, and the gain of the fusions over the better single arm."""
    asked, here = experiments(seed, patients, settings, small or {}), out / f"seed-{seed}"
    with Progress(quiet=True) as progress:
        folds = ground_of(asked[SWARM], here / "ground", data=None, processes=1, progress=progress)
    arms = {name: Arm(one, folds, here / one.digest[:12]) for name, one in asked.items()}
    away = [test.site for test in folds[0].tests]
    seen = {name: [arm.records(site, training=False) for site in away] for name, arm in arms.items()}
    answers, labels, names = {}, [], []
    for name, arm in arms.items():
        pairs = [aligned(own, first)[0] for own, first in zip(seen[name], seen[SWARM], strict=True)]
        answers[name] = np.concatenate([arm.probabilities(records) for records in pairs])
        labels = [int(label) for records in pairs for label in records.labels]
        names = [patient for records in pairs for patient in records.names]
    answers["late mean"] = (answers[SWARM] + answers[NETWORK]) / 2
    answers["concat"] = concatenated((arms[SWARM], arms[NETWORK]), folds[0].train, away)
    classes = asked[SWARM].data.classes
    cells = {arm: score(labels, p.tolist(), classes, groups=names, metrics=SHOWN, bootstrap=0) for arm, p in answers.items()}
    best = max((SWARM, NETWORK), key=lambda arm: cells[arm]["accuracy"]["value"])
    gains = {
        arm: compare(METRICS["accuracy"], labels, answers[arm].tolist(), [answers[best].tolist()], classes, groups=names, bootstrap=1000)
        for arm in ("late mean", "concat")
    }
    reached = {name: float(trained(arms[name].state)["reached"].min()) for name in (SWARM, RANDOM)}
    seconds = {name: arm.seconds for name, arm in arms.items()}
    return {"seed": seed, "patients": len(labels), "arms": cells, "best_single": best, "gains": gains, "reached": reached, "seconds": seconds}


def show(found: list[dict[str, Any]]) -> None:
    """Print the arms, mean over seeds, what fusing adds to the better single arm, and what the swarm reached beside random search."""
    heading(f"S05: {found[0]['patients']} unseen phantoms a seed, seeds {', '.join(str(one['seed']) for one in found)}")
    rows = [
        [
            arm,
            *(f"{mean(one['arms'][arm][name]['value'] for one in found):.3f}" for name in SHOWN),
            f"{mean(one['seconds'][arm] for one in found):.0f}" if arm in RECIPES else "",
        ]
        for arm in found[0]["arms"]
    ]
    table(["arm", *SHOWN, "s in rounds"], rows)
    lines = [
        [
            str(one["seed"]),
            one["best_single"],
            *(_gain(one["gains"][arm]) for arm in ("late mean", "concat")),
            *(f"{one['reached'][arm]:.4f}" for arm in (SWARM, RANDOM)),
        ]
        for one in found
    ]
    table(["seed", "better single arm", "late mean over it", "concat over it", "loss, swarm", "loss, random search"], lines)


def _gain(cell: dict[str, Any]) -> str:
    return f"{cell['value']:+.3f} ({cell['low']:+.3f} to {cell['high']:+.3f})"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.fusion_arms", description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fusion")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=30, help="of each hospital that trains; twice as many of the one that does not")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            show([measure(Path(folder), 0, 16, SMOKE, SMALL)])
        return
    found = [measure(options.out, seed, options.patients) for seed in range(options.seeds)]
    show(found)
    write_json(options.out / "fusion.json", {"seeds": found}, durable=False)


if __name__ == "__main__":
    main()
