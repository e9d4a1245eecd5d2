"""Small prepared sites for the federation bench, and the same records as plain arrays for the plain loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.cases import cache
from client.cases.cohort import Case, Cohort, Visit
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.selection import split_records
from client.site import Site
from shared_models.core.files import write_atomic, write_json
from shared_models.experiment import Experiment

CLASSES = ("normal", "UIP")
SITES = ("east", "north", "south", "west")
CASES = 20


@dataclass(frozen=True)
class Work:
    """What all arms do: a model with its knobs, the shape of a record, steps of a batch in each round."""

    name: str
    model: dict
    inputs: dict
    rounds: int
    steps: int
    batch: int

    def experiment(self) -> Experiment:
        """Return the experiment; no validation patients, so that no arm does more than train and average."""
        return Experiment.model_validate(
            {
                "name": self.name,
                "data": {"classes": CLASSES},
                "inputs": self.inputs,
                "model": self.model,
                "train": {
                    "steps": self.steps,
                    "batch": self.batch,
                    "schedule": "constant",
                    "optimiser": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
                },
                "federation": {"rounds": self.rounds, "quorum": len(SITES), "deadline_s": 600.0},
                "evaluation": {"validation": 0.0},
            }
        )


TRIVIAL = Work("trivial", {"name": "mil_cnn", "widths": [4, 4], "features": 8, "bins": 0}, {"slices": 4, "size": 16, "margin_mm": 0.0}, 5, 1, 4)
DENSENET = Work("densenet121", {"name": "densenet121"}, {"shape_zyx": [32, 32, 32], "margin_mm": 0.0}, 4, 2, 4)
WORKS = {work.name: work for work in (TRIVIAL, DENSENET)}


def prepared_site(folder: Path, name: str, *, volume: tuple[int, ...], seed: int) -> Path:
    """Write one prepared site of `CASES` patients with volumes (z, y, x) into ``folder/name`` and return that folder."""
    here = folder / name
    rng = np.random.default_rng([7, seed])
    cases = []
    for patient in range(CASES):
        label = patient % len(CLASSES)
        hu = (rng.normal(-850 + 200 * label, 60, volume)).astype(np.float32)
        at = Path("cache") / f"{patient:02d}.safetensors"
        cache.store(here / "workspace" / at, Prepared(Volume(hu, (4.0, 4.0, 4.0)), np.ones(volume, np.uint8)), {})
        cases.append(Case(f"{name}{patient:02d}", (Visit(f"v{patient}", 0, f"s{patient}", at),), CLASSES[label]))
    write_atomic(here / "site.toml", f'[site]\nname = "{name}"\n'.encode(), durable=False)
    Cohort(tuple(cases), CLASSES).save(here / "workspace" / "cohort.json")
    return here


def make_sites(folder: Path, experiment: Experiment) -> list[Path]:
    """Write four prepared sites and the experiment into `folder`; return the site TOMLs. Each has its records in ``records.npz`` too."""
    volume = experiment.inputs.shape_zyx if experiment.model.name == "densenet121" else (8, 16, 16)
    write_atomic(folder / "experiment.json", experiment.to_json().encode(), durable=False)
    tomls = []
    for number, name in enumerate(SITES):
        here = prepared_site(folder, name, volume=volume, seed=number)
        records, _ = split_records(Site.load(here / "site.toml"), experiment)
        np.savez(here / "records.npz", inputs=records.inputs.astype(np.float32), labels=records.labels)
        tomls.append(here / "site.toml")
    write_json(
        folder / "plain.json", experiment.model_dump(mode="json", include={"model", "train", "federation"}) | {"sites": list(SITES)}, durable=False
    )
    return tomls
