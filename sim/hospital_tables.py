"""A federation over hospitals whose data are tables: real ones, each with its own share of patients put aside as its test set."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import describe_predictions, score
from sim.baselines import POOLED, train_baselines
from sim.evidence import run_facts
from sim.federation import federate
from sim.judgement import personal_part
from sim.pool import Pool
from sim.progress import Progress
from sim.run import Run
from sim.settings import Tables

MISSING = frozenset(("", "?", "nan", "na"))


def federate_tables(run: Run, settings: Tables, data: Path | None, progress: Progress) -> Path:
    """Spread the tables, federate, train the baselines, judge every model on every hospital's test patients; return the report's path.

    Raises
    ------
    BadInput
        A data file is not there.
    """
    experiment, out = run.experiment, run.out
    with Pool(run.cores, experiment=experiment.for_sites().to_json()) as pool:
        with run.clock.phase("spread"):
            sites = [write_hospital(settings, name, file, data, out / "sites" / name) for name, file in sorted(settings.files.items())]
        with run.clock.phase("federate"):
            federate(run, sites, out / "federation", pool, progress)
        with run.clock.phase("baselines"):
            steps = train_baselines(experiment, sites, out, pool, progress)
        with run.clock.phase("judge"):
            _judge(run, sites, pool)
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    facts = run_facts(run, sites, [], steps, bundle="")
    for site in facts["sites"]:
        with open(out / "sites" / site["name"] / "table.csv", newline="", encoding="utf-8") as file:
            site["cases"] = sum(row["part"] == "training" for row in csv.DictReader(file))
    told = {"data": settings.citation, "unseen": "patients"}
    if experiment.privacy.at_sites:
        told["baselines"] = "trained without privacy"
    write_json(out / "run.json", facts | told)
    from server.reports.report import write_report

    with run.clock.phase("report"):
        return write_report(out)


def write_hospital(settings: Tables, name: str, file: str, data: Path | None, folder: Path) -> Path:
    """Write one hospital's complete rows as ``table.csv`` with a column ``part``, and its site TOML; return the TOML's path."""
    from sklearn.model_selection import train_test_split

    source = (data / file) if data else Path(file)
    if not source.exists():
        raise BadInput("this experiment needs its real data", value=file, remedy="name their folder with --data or FEDILD_REAL_DATA")
    with open(source, newline="", encoding="utf-8") as text:
        lines = [[cell.strip() for cell in line] for line in csv.reader(text) if line]
    if wrong := next((len(line) for line in lines if len(line) != len(settings.header)), None):
        raise BadInput(f"every row of {file} has one cell for each name of the header", value=f"{wrong} cells, {len(settings.header)} names")
    wanted = [settings.header.index(column) for column in settings.complete]
    lines = [line for line in lines if not any(line[i].casefold() in MISSING for i in wanted)]
    labels = np.array([settings.labels.get(line[-1], line[-1]) for line in lines])
    counts = np.unique(labels, return_counts=True)[1]
    stratify = labels if len(counts) > 1 and (counts > 2).all() else None
    numbers = np.arange(len(lines))
    held = train_test_split(
        numbers, test_size=settings.test, train_size=1 - settings.test, random_state=settings.split_seed, shuffle=True, stratify=stratify
    )[1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient_id", *settings.header[:-1], "label", "part"])
    for number, line in enumerate(lines):
        writer.writerow([f"{name}-{number}", *line[:-1], labels[number], "validation" if number in held else "training"])
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "table.csv", text.getvalue().encode(), durable=False)
    write_atomic(folder / "site.toml", f'[site]\nname = "{name}"\ntable = "table.csv"\n'.encode(), durable=False)
    return folder / "site.toml"


def _judge(run: Run, sites: list[Path], pool: Pool) -> None:
    experiment, out = run.experiment, run.out
    names = [site.parent.name for site in sites]
    states = {"federated": out / "federation" / "final.safetensors"}
    states |= {name: out / "baselines" / f"{name}.safetensors" for name in (POOLED, *names)}
    text = experiment.for_sites().to_json()
    calls = [(text, str(state), [str(site)], "validation") for state in states.values() for site in sites]
    found = iter(pool.map("sim.tasks", "predictions", calls))
    answers = {name: {site: next(found) for site in names} for name in states}
    cells = {name: _cell(experiment, by_site) for name, by_site in answers.items()}
    personal = pool.map("sim.tasks", "personal_predictions", [(text, str(states["federated"]), str(site), "validation") for site in sites])
    own = {name: answer for name, answer in zip(names, personal, strict=True) if answer is not None}
    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "classes": list(experiment.data.classes),
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "real", "note": "Each hospital's own test patients; no model was trained on them."},
        "headline": experiment.evaluation.headline,
        "federated": cells["federated"] | (personal_part(_cell(experiment, own)["sites"]) if own else {}),
        "local_only": {name: cells[name] for name in names},
        "pooled": cells[POOLED],
    }
    write_json(out / "metrics.json", metrics)
    described = {name: {"held_out": describe_predictions(*_together(by_site), experiment.data.classes)} for name, by_site in answers.items()}
    alone = {name: described[name] for name in names}
    write_json(out / "curves.json", {"federated": described["federated"], POOLED: described[POOLED], "local_only": alone})


def _together(by_site: dict[str, Any]) -> tuple[list[int], list[list[float]]]:
    return [y for labels, _, _ in by_site.values() for y in labels], [p for _, rows, _ in by_site.values() for p in rows]


def _cell(experiment: Experiment, by_site: dict[str, Any]) -> dict[str, Any]:
    """Score one model: all test patients together, each hospital's, and the plain mean of the hospitals' values (as benchmarks report)."""

    def scored(labels: list[int], rows: list[list[float]], bootstrap: int) -> dict[str, Any]:
        return score(labels, rows, experiment.data.classes, seed=experiment.seed, bootstrap=bootstrap)

    sites = {name: scored(labels, rows, 0) for name, (labels, rows, _) in by_site.items()}
    means = {}
    for metric in next(iter(sites.values())):
        values = [site[metric]["value"] for site in sites.values()]
        means[metric] = None if any(value is None for value in values) else float(np.mean(values))
    return {"held_out": scored(*_together(by_site), experiment.evaluation.bootstrap), "sites": sites, "mean_of_sites": means}
