"""Four arms of one system: a radial basis network on radiomics, an attention network on slices, and two ways to fuse them.

    python -m bench.fusion_arms --out runs/fusion                  two federations on the same phantoms, then the table

late: the mean of both probabilities. concat: a ridge regression on what the network hands its classifier and what the radial units say, fitted on
the hospitals' training patients by sums. All arms are judged on the hospital that nobody trained on, with the same patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.site import Site
from client.statistics import all_seen, seen_records
from client.training import PREDICTORS
from client.training.gradient import network_of
from client.training.records import Records
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.classical.ridge import ridge
from shared_models.core.arrays import State
from shared_models.core.files import read_state, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import METRICS, score
from shared_models.metrics.scoring import compare
from shared_models.phases import trained
from shared_models.representation import represent
from sim.experiments import find
from sim.settings import Phantoms, simulation_of
from sim.simulation import simulate

RADIOMICS, NETWORK = "radiomics_rbf", "attention_cnn"
SHOWN = ("accuracy", "balanced_accuracy", "auroc_macro", "brier")


class Arm:
    """One federation's released model and what it sees of each hospital."""

    def __init__(self, name: str, folder: Path, settings: list[str]) -> None:
        self.experiment, self.folder = find(name, settings), folder
        if not (folder / "metrics.json").exists():
            simulate(self.experiment, folder, quiet=True, resume=(folder / "experiment.json").exists())
        self.state = read_state(folder / "federation" / "final.safetensors")

    def records(self, hospital: str, *, training: bool) -> Records:
        site = Site.load(self.folder / "hospitals" / hospital / "site.toml")
        return seen_records(site, self.experiment, self.state)[0] if training else all_seen(site, self.experiment, self.state)

    def probabilities(self, records: Records) -> np.ndarray:
        return PREDICTORS[spec_of(self.experiment.model).fit](self.experiment, self.state, records)

    def inner(self, records: Records) -> np.ndarray:
        """What the arm makes of each record before it names a class, shape (n, width)."""
        spec, classes = spec_of(self.experiment.model), len(self.experiment.data.classes)
        if spec.fit != "gradient":
            model: Any = build(self.experiment.model, inputs=inputs_of(self.experiment), outputs=classes)
            return model.units(trained(self.state), records.inputs)[:, :-1]
        network = network_of(self.experiment, trained(self.state)).eval()
        with torch.inference_mode():
            return represent(network, str(spec.representation), torch.from_numpy(records.inputs)).double().numpy()


def aligned(first: Records, second: Records) -> tuple[Records, Records]:
    """The same patients in the same order."""
    names = sorted(set(first.names) & set(second.names))
    if not len(names) == len(first) == len(second):
        raise SystemExit("both arms must have the same patients: prepare them with the same hospitals and seed")
    return first.take([first.names.index(name) for name in names]), second.take([second.names.index(name) for name in names])


def concatenated(arms: tuple[Arm, Arm], sites: list[str], held_out: list[str], penalty: float) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels, probabilities and names of the fused model on the held-out hospitals, its ridge regression fitted by the sites' sums."""

    def joined(site: str, *, training: bool) -> tuple[np.ndarray, Records]:
        pair = aligned(*(arm.records(site, training=training) for arm in arms))
        return np.column_stack([arm.inner(records) for arm, records in zip(arms, pair, strict=True)]), pair[0]

    rows = [joined(site, training=True) for site in sites]
    model = ridge(rows[0][0].shape[1], len(arms[0].experiment.data.classes), ridge=penalty)
    state: State = model.start(seed=0)
    for _ in range(2):
        state = model.combine(state, [model.contribution(state, x, records.labels, seed=0) for x, records in rows], [])
    judged = [joined(site, training=False) for site in held_out]
    return (
        np.concatenate([records.labels for _, records in judged]),
        np.concatenate([model.predict(state, x) for x, _ in judged]),
        tuple(name for _, records in judged for name in records.names),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ridge", type=float, default=10.0, help="penalty of the concatenated arm")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting of both experiments")
    given = parser.parse_args()
    settings = [*given.settings, f"seed={given.seed}"]
    arms = Arm(RADIOMICS, given.out / RADIOMICS, settings), Arm(NETWORK, given.out / NETWORK, settings)
    plan = simulation_of(arms[0].experiment)
    if not isinstance(plan, Phantoms):
        raise SystemExit("the arms are compared on phantoms")
    held_out = list(plan.held_out)
    sites = [preset.name for preset in plan.presets() if preset.name not in held_out]
    labels, fused, names = concatenated(arms, sites, held_out, given.ridge)
    pairs = [aligned(*(arm.records(site, training=False) for arm in arms)) for site in held_out]
    alone = [np.concatenate([arm.probabilities(pair[number]) for pair in pairs]) for number, arm in enumerate(arms)]
    answers = {"radial basis network": alone[0], "attention network": alone[1], "late mean": (alone[0] + alone[1]) / 2, "concat": fused}
    show(arms[0].experiment, labels, answers, names, given.out)


def show(experiment: Experiment, labels: np.ndarray, answers: dict[str, np.ndarray], names: tuple[str, ...], out: Path) -> None:
    classes, truth = experiment.data.classes, labels.tolist()
    cells = {arm: score(truth, p.tolist(), classes, groups=names, metrics=SHOWN, seed=0, bootstrap=1000) for arm, p in answers.items()}
    best = max(list(answers)[:2], key=lambda arm: cells[arm]["accuracy"]["value"])
    gains = {
        arm: compare(METRICS["accuracy"], truth, answers[arm].tolist(), [answers[best].tolist()], classes, groups=names, seed=0, bootstrap=1000)
        for arm in list(answers)[2:]
    }
    print(f"{len(truth)} phantoms of the held-out hospital, seed {experiment.seed}")
    for arm, cell in cells.items():
        print(f"{arm:22}", *(f"{metric} {cell[metric]['value']:.3f} [{cell[metric]['low']:.3f}, {cell[metric]['high']:.3f}]" for metric in SHOWN))
    for arm, gain in gains.items():
        print(f"accuracy of {arm} less that of {best}: {gain}")
    write_json(out / "fusion.json", {"seed": experiment.seed, "arms": cells, "over_best_single": {"best": best, **gains}})


if __name__ == "__main__":
    main()
