"""`fedild compare`: strategies times seeds on one ground, resumable cell by cell, then one page.

    <out>/plan.json                         what is compared
    <out>/ground/seed-<n>/                  hospitals and test sets
    <out>/cells/<strategy>/seed-<n>/        one run each; cell.json when finished, failure.json when it failed
    <out>/compare.json compare.html

Hospitals and test sets are made once a seed and shared by all strategies.
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from shared_models.core.errors import BadExperiment, BadInput, FedILDError
from shared_models.core.files import read_json, write_atomic, write_json
from shared_models.experiment import Experiment
from sim.check import faults
from sim.comparison.arms import Arm
from sim.comparison.cell import run_cell
from sim.comparison.ground import Fold, ground_of
from sim.comparison.verdict import verdict
from sim.pool import Pool
from sim.progress import Progress
from sim.settings import Phantoms, simulation_of


def compare(
    experiment: Experiment,
    arms: Sequence[Arm],
    out: Path,
    *,
    seeds: int = 5,
    processes: int | None = None,
    data: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Run every strategy with every seed, write ``compare.json`` and ``compare.html``, and return the page's path.

    A finished cell is not run again; a failed one is tried again when the comparison is, does not stop the others, and is shown.

    Parameters
    ----------
    experiment : Experiment
        With a ``[simulation]``; its own strategy only matters if it is among the arms.
    arms : sequence of Arm
        What is compared; differences are taken from the first.
    out : Path
        New folder, or one of the same comparison: arms and seeds may have been added.
    seeds : int
        How many, counted from the experiment's.
    processes : int, optional
        Worker processes; one a core by default.
    data : Path, optional
        Folder of real data.

    Raises
    ------
    BadInput, BadExperiment
        An experiment that cannot be simulated, no seeds, or a folder that holds something else.
    """
    if seeds < 1 or not arms:
        raise BadInput("a comparison needs at least one strategy and one seed", value={"strategies": len(arms), "seeds": seeds})
    if experiment.data.target in ("segmentation", "survival", "findings"):
        rule = "strategies are compared on classes of patients"
        raise BadInput(rule, value=experiment.data.target, remedy="simulate each: fedild simulate NAME --set strategy.name=...")
    if wrong := faults(experiment.model_copy(update={"strategy": None})):
        raise BadExperiment(f"experiment {experiment.name}", faults=wrong)
    out = out.resolve()
    _claim(out, experiment)
    numbers = list(range(experiment.seed, experiment.seed + seeds))
    cores = processes or len(os.sched_getaffinity(0))
    with Progress(quiet=quiet) as progress, _Grid(experiment, out, cores, data, progress) as grid:
        step, total = progress.bar("comparing, rounds"), len(arms) * len(numbers)
        for place, (seed, arm) in enumerate(itertools.product(numbers, arms)):

            def told(done: int, of: int, place: int = place) -> None:
                step(place * of + done, total * of)

            progress.say(f"{arm.label}, seed {seed}: {grid.run(arm, seed, told)}")
    write_json(out / "plan.json", {"experiment": experiment.to_json(), "arms": [arm.label for arm in arms], "seeds": numbers})
    write_json(out / "compare.json", _facts(experiment, out) | verdict(experiment, arms, numbers, out / "cells"))
    from server.reports.comparison import write_comparison

    return write_comparison(out)


class _Grid:
    """Runs cells; the processes and each seed's ground are made when a cell needs them."""

    def __init__(self, experiment: Experiment, out: Path, cores: int, data: Path | None, progress: Progress) -> None:
        self.experiment, self.out, self.cores, self.data, self.progress = experiment, out, cores, data, progress
        self.pool: Pool | None = None
        self.grounds: dict[int, list[Fold]] = {}

    def __enter__(self) -> _Grid:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def run(self, arm: Arm, seed: int, told: Callable[[int, int], None]) -> str:
        """Run one cell unless it is finished and say what came of it; whatever goes wrong in it is written down."""
        folder = self.out / "cells" / arm.folder / f"seed-{seed}"
        try:
            experiment = arm.of(self.experiment, seed=seed)
            text = experiment.to_json()
            note = folder / "experiment.json"
            if note.exists() and note.read_text(encoding="utf-8") != text:
                shutil.rmtree(folder)  # the same words, but another release gives them other knobs
            if (folder / "cell.json").exists():
                return "was finished before"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "failure.json").unlink(missing_ok=True)
            write_atomic(note, text.encode())
            if wrong := faults(experiment):
                raise BadExperiment(f"{experiment.name} with {arm.label}", faults=wrong)
            folds = self._ground(seed)
            self.pool = self.pool or Pool(self.cores, experiment=experiment.for_sites().to_json())
            cell = run_cell(experiment, folds, folder, self.pool, told=told)
            write_json(folder / "cell.json", cell)
            value = "undefined" if cell["value"] is None else f"{cell['value']:.3f}"
            return f"{experiment.evaluation.headline} {value}, {cell['wall_s']:.1f} s in rounds"
        except Exception as error:
            folder.mkdir(parents=True, exist_ok=True)
            known = isinstance(error, FedILDError)
            words = (str(error) if known else repr(error))[:2000]
            failure = {"code": error.code if known else "E_FAILED", "error": words}
            write_json(folder / "failure.json", failure | ({} if known else {"traceback": traceback.format_exc()}))
            self._close()  # what it left in the pool must not be taken for another cell's
            return f"failed: {' '.join(words.split())[:300]}"

    def _ground(self, seed: int) -> list[Fold]:
        if seed not in self.grounds:
            experiment = self.experiment.model_copy(update={"seed": seed})
            folder = self.out / "ground" / f"seed-{seed}"
            self.grounds[seed] = ground_of(experiment, folder, data=self.data, processes=self.cores, progress=self.progress)
        return self.grounds[seed]


def _claim(out: Path, experiment: Experiment) -> None:
    note = out / "experiment.json"
    if note.exists():
        if note.read_text(encoding="utf-8") != experiment.to_json():
            raise BadInput(
                "a comparison is continued with the experiment it was started with", remedy="use the same TOML and --set, or another --out"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise BadInput("the folder of a comparison must be new or empty", value=str(out), remedy="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(note, experiment.to_json().encode())
    words = [Path(word).name if os.sep in word else word for word in sys.argv]
    write_json(out / "command.json", {"arguments": words, "started": time.strftime("%Y-%m-%d %H:%M:%S")})


def _facts(experiment: Experiment, out: Path) -> dict[str, Any]:
    settings, command = simulation_of(experiment), read_json(out / "command.json")
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "data": {
            "kind": "phantom" if isinstance(settings, Phantoms) else "real",
            "unit": "patches" if experiment.data.kind == "patches" else "patients",
            "citation": getattr(settings, "citation", ""),
            "tests": _tests(experiment),
        },
        "classes": list(experiment.data.classes),
        "model": experiment.model.name,
        "rounds": experiment.federation.rounds,
        "toml": tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True)),
        "command": " ".join(command["arguments"]),
        "started": command["started"],
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("fedild", "flwr", "torch", "numpy", "scikit-learn")},
    }


def _tests(experiment: Experiment) -> str:
    """Say in words what every model was tested on."""
    settings = simulation_of(experiment)
    if isinstance(settings, Phantoms):
        return f"all phantoms of the held-out hospital {', '.join(settings.held_out)}"
    if experiment.data.kind == "patches":
        return f"each of {experiment.evaluation.folds} folds of the patches, held out in turn"
    if experiment.evaluation.folds:
        return (
            f"each of {experiment.evaluation.folds} folds of the hospitals' training patients, held out in turn; the test patients were not touched"
        )
    return "the test patients of each hospital, put aside before training"
