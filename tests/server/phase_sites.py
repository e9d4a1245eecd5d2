"""Hospitals with a table of their own, each with shifts and scales of its own, answered by real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from client.site import Site
from client.worker import Worker
from shared_models.core.choices import Choice
from shared_models.experiment import Experiment
from tests.server.loop_grid import LoopGrid

COLUMNS = ("haa", "laa", "mean_hu", "vessels", "age")
SIZES = {"alpha": 30, "beta": 45, "gamma": 24}


def values(seed: int, rows: int) -> np.ndarray:
    """Columns of very different sizes, shifted and stretched by the hospital."""
    rng = np.random.default_rng(seed)
    age = rng.normal(60 + 3 * seed, 8, rows)
    raw = rng.normal(0, 1, (rows, 4)) @ rng.normal(0, 1, (4, 4)) * [3, 0.1, 40, 1000] + [20, 1, -800, 90_000]
    return np.column_stack([raw * (1 + 0.2 * seed) + seed * np.array([2, 0.05, 15, 300]) + 0.2 * age[:, None], age])


def site(folder: Path, name: str, seed: int, rows: int, toml: str = "") -> Path:
    """Write a hospital's table: two thirds are for training, the class hangs on the first column."""
    table = values(seed, rows)
    lines = ["patient_id," + ",".join(COLUMNS) + ",diagnosis,part"]
    for number, row in enumerate(table):
        klass = "b" if row[0] > np.median(table[:, 0]) else "a"
        lines.append(f"{name}{number}," + ",".join(map(repr, row.tolist())) + f",{klass},{'validation' if number % 3 == 2 else 'training'}")
    home = folder / name
    home.mkdir(parents=True)
    (home / "table.csv").write_text("\n".join(lines))
    (home / "site.toml").write_text(f'[site]\nname = "{name}"\ntable = "table.csv"\n{toml}')
    return home / "site.toml"


def training(name: str) -> np.ndarray:
    """What a hospital trains on."""
    table = values(sorted(SIZES).index(name), SIZES[name])
    return table[np.arange(len(table)) % 3 != 2]


def grid_of(folder: Path, **changed: Any) -> LoopGrid:
    """A hospital a name, each a worker that stays."""
    workers = {name: Worker(Site.load(site(folder, name, seed, SIZES[name], **changed))) for seed, name in enumerate(sorted(SIZES))}
    return LoopGrid({name: worker.handle for name, worker in workers.items()})


def experiment_of(*statistics: Choice, **sections: Any) -> Experiment:
    """An experiment over the tables; `sections` go on top."""
    document: dict[str, Any] = {
        "name": "phases",
        "data": {"kind": "table", "classes": ["a", "b"]},
        "inputs": {"columns": COLUMNS},
        "model": {"name": "linear"},
        "statistics": statistics or None,
        "train": {"epochs": 1, "optimiser": {"name": "sgd", "lr": 0.1}},
        "federation": {"rounds": 2, "quorum": 2, "deadline_s": 60.0},
        "evaluation": {"bootstrap": 0},
    }
    return Experiment.model_validate({**document, **sections})


def knobs(name: str, **more: Any) -> Choice:
    """A line of a TOML."""
    return Choice.model_validate({"name": name, **more})
