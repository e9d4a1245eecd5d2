"""Where strategies are compared: sites and test sets, made once a seed by the same code as `fedild simulate`, and shared by all arms.

| simulation | sites | tests of the global model | what each site is judged on at home |
|---|---|---|---|
| phantoms | the hospitals that train | the held-out hospitals | its validation patients |
| tables | the hospitals | its test patients, at each hospital with what is its own | the same |
| tables, ``evaluation.folds`` | the hospitals without their test patients | one fold of the training patients after another | the same |
| patches | ``sites`` for each fold | the fold | its validation patches, if ``evaluation.validation`` > 0 |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic
from shared_models.experiment import Experiment
from sim.crossvalidation import read_source, spread, stratified_folds
from sim.hospital_tables import write_hospital
from sim.progress import Progress
from sim.settings import Patches, Phantoms, Tables, simulation_of
from sim.simulation import make_phantoms, prepare_sites


@dataclass(frozen=True)
class Test:
    """One test set: the ``all`` or ``validation`` part of a site; `own` says that the site's personal parts take part."""

    name: str
    site: Path
    part: str
    own: bool = False


@dataclass(frozen=True)
class Fold:
    """One federation: who trains, and what it is tested on."""

    name: str
    train: tuple[Path, ...]
    tests: tuple[Test, ...]
    homes: tuple[Test, ...]


def ground_of(experiment: Experiment, folder: Path, *, data: Path | None, processes: int, progress: Progress) -> list[Fold]:
    """Make, or find again, the sites of `experiment` and its seed in `folder`.

    Raises
    ------
    BadInput
        Real data are not there, or the experiment is of another kind.
    """
    settings = simulation_of(experiment)
    makers: dict[type, Callable[..., list[Fold]]] = {Phantoms: _phantoms, Tables: _tables, Patches: _patches}
    if type(settings) not in makers:
        raise BadInput("strategies are compared on phantoms, tables or patches", value=experiment.name, remedy="choose such an experiment")
    return makers[type(settings)](experiment, settings, folder, data=data, processes=processes, progress=progress)


def _phantoms(experiment: Experiment, settings: Phantoms, folder: Path, *, processes: int, progress: Progress, **_: Any) -> list[Fold]:
    sites = make_phantoms(experiment, folder, processes=processes, progress=progress)
    prepare_sites(experiment, sites, processes=processes, progress=progress)
    train = tuple(site for site in sites if site.parent.name not in settings.held_out)
    tests = tuple(Test(site.parent.name, site, "all") for site in sites if site.parent.name in settings.held_out)
    return [Fold("run", train, tests, _homes(experiment, train))]


def _tables(experiment: Experiment, settings: Tables, folder: Path, *, data: Path | None, **_: Any) -> list[Fold]:
    sites = tuple(write_hospital(settings, name, file, data, folder / "sites" / name) for name, file in sorted(settings.files.items()))
    if experiment.evaluation.folds is None:
        homes = _homes(experiment, sites)
        return [Fold("run", sites, homes, homes)]
    folds = []
    for number in range(experiment.evaluation.folds):
        inner = tuple(_within(site, folder / f"fold-{number}" / site.parent.name, number, experiment) for site in sites)
        homes = _homes(experiment, inner)
        folds.append(Fold(f"fold-{number}", inner, homes, homes))
    return folds


def _patches(experiment: Experiment, settings: Patches, folder: Path, *, data: Path | None, **_: Any) -> list[Fold]:
    count = experiment.evaluation.folds
    if count is None:
        raise BadInput("a patch experiment is cross-validated", remedy="set evaluation.folds")
    hu, label, patients = read_source(settings, data)
    fold_of = stratified_folds(hu, label, count, seed=experiment.seed, groups=patients)
    folds = []
    for number in range(count):
        held, here = fold_of == number, folder / f"fold-{number}"
        train, test = spread(experiment, settings, hu, label, held, here, seed=experiment.seed + number, patients=patients)
        folds.append(Fold(f"fold-{number}", tuple(train), (Test(f"fold {number + 1}", test, "all"),), _homes(experiment, tuple(train))))
    return folds


def _homes(experiment: Experiment, sites: tuple[Path, ...]) -> tuple[Test, ...]:
    if experiment.evaluation.validation == 0:
        return ()
    return tuple(Test(site.parent.name, site, "validation", own=True) for site in sites)


def _within(site: Path, folder: Path, number: int, experiment: Experiment) -> Path:
    """Write a hospital anew whose test patients are its training patients of one fold; its real test patients are gone."""
    with open(site.parent / "table.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "training"]
    generator = np.random.default_rng([experiment.seed, 71])
    order = generator.permutation(len(rows))
    order = order[np.argsort([rows[i]["label"] for i in order], kind="stable")]  # classes spread evenly over the folds
    held = set(order[number :: experiment.evaluation.folds].tolist())
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "part": "validation" if place in held else "training"} for place, row in enumerate(rows))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "table.csv", text.getvalue().encode(), durable=False)
    write_atomic(folder / "site.toml", f'[site]\nname = "{site.parent.name}"\ntable = "table.csv"\n'.encode(), durable=False)
    return folder / "site.toml"
