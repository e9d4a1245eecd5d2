"""Small sites on disk: a table cohort whose label hangs on its columns, or separable patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from client.cases.cohort import Case, Cohort, Visit
from shared_models.core.choices import Choice
from shared_models.experiment import Data, Evaluation, Experiment, Federation, Inputs, Train

CLASSES = ("normal", "UIP")


def table_site(folder: Path, name: str, *, patients: int = 40, seed: int = 0, toml: str = "") -> Path:
    """A site with a prepared cohort of two columns; return its TOML."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(patients):
        label = CLASSES[number % 2]
        score = (1.0 if label == "UIP" else -1.0) + rng.normal(0, 0.7)
        visit = Visit(f"v{number}", 0, f"s{number}", Path("cache/x"), {"whole_haa_percent": 10 + 4 * score}, {"age": float(rng.normal(60, 8))})
        cases.append(Case(f"{name}{number:03d}", (visit,), label))
    home = folder / name
    Cohort(tuple(cases), CLASSES).save(home / "workspace" / "cohort.json")
    (home / "site.toml").write_text(f'[site]\nname = "{name}"\n{toml}')
    return home / "site.toml"


def patch_site(folder: Path, name: str, *, patches: int = 40, seed: int = 0) -> Path:
    """A site with patches whose mean tells the class; return its TOML."""
    rng = np.random.default_rng(seed)
    label = np.array(CLASSES)[np.arange(patches) % 2]
    hu = rng.normal(-850, 40, (patches, 15, 15)) - 90 * (label == "UIP")[:, None, None]
    home = folder / name
    home.mkdir(parents=True)
    patient = np.array([f"{name}{number:03d}" for number in range(patches)])
    np.savez(home / "patches.npz", hu=hu.astype(np.int16), label=label, patient=patient)
    (home / "site.toml").write_text(f'[site]\nname = "{name}"\npatches = "patches.npz"\n')
    return home / "site.toml"


def table_experiment(model: Choice | None = None, **federation: int | float) -> Experiment:
    settings = {"rounds": 3, "quorum": 2, "deadline_s": 300.0, **federation}
    return Experiment(
        name="table",
        data=Data(classes=CLASSES),
        inputs=Inputs(columns=("whole_haa_percent", "age")),
        model=model or Choice(name="logistic"),
        federation=Federation.model_validate(settings),
        evaluation=Evaluation(validation=0.3, bootstrap=0),
    )


def patch_experiment(**federation: Any) -> Experiment:
    settings = {"rounds": 3, "quorum": 2, "deadline_s": 300.0, **federation}
    return Experiment(
        name="patches",
        data=Data(kind="patches", classes=CLASSES),
        model=Choice.model_validate({"name": "patch_cnn", "width": 4, "bins": 8, "hidden": 8}),
        train=Train(
            batch=16,
            optimiser=Choice.model_validate({"name": "adamw", "lr": 0.01}),
            augment=(Choice(name="flip"), Choice(name="quarter_turns"), Choice.model_validate({"name": "noise", "hu": 10.0})),
        ),
        strategy=Choice(name="fedadam"),
        federation=Federation.model_validate(settings),
        evaluation=Evaluation(validation=0.2, bootstrap=0),
    )
