"""What a course of visits adds to the first one where growth kills: the planted recipe by seed, beside the first visit alone and the planted risk.

python -m bench.visits [--seeds 3] [--processes 1] [--smoke]

Phantom patients without images (`sim/courses`): the figures say whether the software finds what was planted, and nothing about patients. Asked:
Harrell's C at least 0.08 above that of the first visit alone; AUC at 3 years at most 0.03 below that of the planted risk, all on patients of a
hospital that did not train, counted from the same day. Beside the planted risk, which knows the growth, stands the best that the measured visits
allow (`bench/measured_growth`): what no model can win back is the difference of the two. Which patients are judged moves that difference by 0.01 from
seed to seed, so that the mean over seeds says more than one of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from bench.measured_growth import best_risks
from bench.timing import heading, table
from shared_models.core.files import read_state
from shared_models.metrics.prognosis import score_prognosis
from sim.experiments import find
from sim.prognosis import PLANTED
from sim.settings import Courses, simulation_of
from sim.simulation import simulate
from sim.tasks import records_at
from sim.zoo.ran import Ran
from sim.zoo.visits import first_visit_alone, reordered

SMOKE = ('stages=[{rounds=1, train_only=["trend.*", "constants"]}, {rounds=1}]', "simulation.defaults.patients=40", "evaluation.bootstrap=0")
GAIN, ORACLE = 0.08, 0.03


def best_of_measured(ran: Ran, horizon: float) -> float:
    """Return the AUC at the horizon of the best risks that the measured visits of the held-out patients allow."""
    settings, experiment = simulation_of(ran.experiment), ran.experiment
    if not isinstance(settings, Courses):
        raise TypeError("only courses without images have a known law of error")
    records = records_at([str(site) for site in ran.held_out], experiment, read_state(ran.folder / "federation" / "final.safetensors"))
    known: dict[str, float] = {}
    for site in ran.held_out:
        landmark = experiment.inputs.landmark_years or 0.0
        known |= best_risks(site.parent / "table.csv", error_percent=settings.error_percent, landmark_years=landmark, horizon=horizon)
    risks = np.array([[known[name]] for name in records.names])
    found = score_prognosis(records.outcome, risks, [horizon], absolute=False, groups=records.names, bootstrap=0)
    return found[f"auc_at_{horizon:g}"]["value"] or 0.0


def run_seed(seed: int, settings: list[str], processes: int) -> dict[str, float]:
    """Return the figures of one seed: of drawing patients, of their measurement and of training."""
    experiment = find("longitudinal_planted", [f"seed={seed}", *settings])
    with tempfile.TemporaryDirectory(prefix="fedild-visits-") as folder:
        began, run = time.perf_counter(), Path(folder) / "run"
        simulate(experiment, run, processes=processes, quiet=True)
        ran = Ran(experiment, run, Path(folder) / "store", processes)
        alone = first_visit_alone(ran)
        told = ran.metrics["diagnoses"]["federated"]
        return {
            "C": ran.value("harrell_c") or 0.0,
            "C, first visit": alone["harrell_c"]["value"] or 0.0,
            "AUC(3)": ran.value("auc_at_3") or 0.0,
            "AUC(3), best of measured": best_of_measured(ran, 3.0),
            "AUC(3), planted": ran.value("auc_at_3", PLANTED) or 0.0,
            "diagnosis AUROC": told["auroc_macro"]["value"] or 0.0,
            "other order": reordered(ran, with_times=True),
            "seconds": time.perf_counter() - began,
        }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--smoke", action="store_true", help="few patients and rounds: shows only that everything runs")
    options = arguments.parse_args()
    heading("Visits of planted patients")
    seeds = range(1 if options.smoke else options.seeds)
    found = [run_seed(seed, list(SMOKE) if options.smoke else [], options.processes) for seed in seeds]
    rows = [row_of(str(seed), one) for seed, one in zip(seeds, found, strict=True)]
    if len(found) > 1:
        rows.append(row_of("mean", {name: float(np.mean([one[name] for one in found])) for name in found[0]}))
    table(["seed", *found[0], "C gained", "AUC(3) - planted", "as asked"], rows)
    if len(found) > 1:
        short = np.array([one["AUC(3)"] - one["AUC(3), planted"] for one in found])
        half = float(student.ppf(0.975, len(short) - 1) * short.std(ddof=1) / len(short) ** 0.5)
        print(f"AUC(3) - planted over {len(short)} seeds, 95 % of the mean: {short.mean() - half:+.3f} to {short.mean() + half:+.3f}")


def row_of(name: str, found: dict[str, float]) -> list[str]:
    """Return a row of the table: the figures, what is asked of them, and whether they meet it."""
    gain, short = found["C"] - found["C, first visit"], found["AUC(3), planted"] - found["AUC(3)"]
    met = "yes" if gain >= GAIN and short <= ORACLE and found["other order"] <= 1e-5 else "no"
    return [name, *(f"{value:.3g}" for value in found.values()), f"{gain:+.3f}", f"{-short:+.3f}", met]


if __name__ == "__main__":
    main()
