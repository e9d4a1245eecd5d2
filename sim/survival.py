"""A federation over the sites of one real table with survival as its target: hazard ratios of the federation beside those of the pooled fit.

<out>/sites/<name>/       site.toml, table.csv
<out>/federation/         start, checkpoints, final state
<out>/baselines/pooled    all sites in one place, each still a stratum
<out>/metrics.json report.html
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.follow_up import FollowUp, follow_up_of
from client.selection import all_records
from client.site import Site
from shared_models.classical.cox import hazard_table, proportionality
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import read_state, write_atomic, write_json
from shared_models.experiment import Experiment
from shared_models.metrics.survival import score_survival
from shared_models.phases import fit_of, rounds_of
from shared_models.statistics.life_table import told_table
from shared_models.survival.profile import profile_table
from sim.baselines import POOLED
from sim.federation import federate
from sim.pool import Pool
from sim.progress import Progress
from sim.run import Run
from sim.settings import OneTable

MISSING = frozenset(("", "?", "nan", "na"))


def federate_survival(run: Run, settings: OneTable, data: Path | None, progress: Progress) -> Path:
    """Spread the table, federate, fit the pooled model, judge both on all patients; return the report's path.

    Raises
    ------
    BadInput
        The data file is not there, or holds other sites than declared.
    """
    out, text = run.out, run.experiment.for_sites().to_json()
    with Pool(run.cores, experiment=text) as pool:
        with run.clock.phase("spread"):
            sites = spread(settings, data, out / "sites")
        with run.clock.phase("federate"):
            federate(run, sites, out / "federation", pool, progress)
        with run.clock.phase("baselines"):
            # No site alone: two patients have no hazard ratio.
            start, state = str(out / "federation" / "start.safetensors"), out / "baselines" / f"{POOLED}.safetensors"
            state.parent.mkdir(exist_ok=True)
            pool.map("sim.tasks", "train_alone", [(text, [str(site) for site in sites], start, str(state), POOLED)])
        with run.clock.phase("judge"):
            _judge(run, settings, sites, pool)
    from server.reports.survival import write_survival_report

    return write_survival_report(out)


def spread(settings: OneTable, data: Path | None, folder: Path) -> list[Path]:
    """Write the rows of each site as ``table.csv`` with its site TOML under `folder`; return the TOMLs in the order of their names.

    Raises
    ------
    BadInput
        The file is not there, lacks the column, or holds another number of sites than declared.
    """
    source = (data / settings.file) if data else Path(settings.file)
    if not source.exists():
        raise BadInput("this experiment needs its real data", value=settings.file, remedy="name their folder with --data or FEDILD_REAL_DATA")
    with open(source, newline="", encoding="utf-8") as text:
        reader = csv.DictReader(text)
        header, lines = list(reader.fieldnames or ()), list(reader)
    if settings.site not in header:
        raise BadInput("the file has the column that names the site", value=settings.site, remedy=f"it has {', '.join(header)}")
    by_site: dict[str, list[dict[str, str]]] = {}
    for number, line in enumerate(lines):
        if line[settings.site].strip().casefold() not in MISSING:
            by_site.setdefault(_name(line[settings.site]), []).append({"patient_id": f"row{number}", **line})
    if len(by_site) != settings.sites:
        raise BadInput("the file holds the declared number of sites", value=len(by_site), remedy=f"simulation.sites = {len(by_site)}")
    columns = ["patient_id", *(name for name in header if name != settings.site)]
    policy = "" if settings.min_cases_in_sum is None else f"[policy]\nmin_cases_in_sum = {settings.min_cases_in_sum}\n"
    for name, rows in by_site.items():
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name / "table.csv", table.getvalue().encode(), durable=False)
        write_atomic(folder / name / "site.toml", f'[site]\nname = "{name}"\ntable = "table.csv"\n{policy}'.encode(), durable=False)
    return [folder / name / "site.toml" for name in sorted(by_site)]


def _name(cell: str) -> str:
    """Return a site's name for the value of a cell: 3 and 3.0 are one site."""
    text = re.sub(r"\.0+$", "", cell.strip())
    return "site-" + re.sub(r"[^A-Za-z0-9-]", "-", text.rjust(2, "0") if text.isdigit() else text)


def _judge(run: Run, settings: OneTable, sites: list[Path], pool: Pool) -> None:
    experiment, out = run.experiment, run.out
    states = {"federated": out / "federation" / "final.safetensors", POOLED: out / "baselines" / f"{POOLED}.safetensors"}
    names = [str(site) for site in sites]
    judged = "validation" if experiment.evaluation.validation else "all"
    found = pool.map("sim.tasks", "risks", [(experiment.for_sites().to_json(), str(state), names, judged) for state in states.values()])
    tables: dict[str, Any] = {}
    for name, (outcomes, scores) in zip(states, found, strict=True):
        scored = score_survival(outcomes, scores, seed=experiment.seed, bootstrap=experiment.evaluation.bootstrap)
        tables[name] = {"scores": scored, **_ratios(experiment, read_state(states[name]))}
    cohorts = [_followed(site, experiment) for site in sites]
    write_json(
        out / "metrics.json",
        {
            "experiment": experiment.name,
            "title": experiment.title,
            "target": "survival",
            "ties": experiment.model.knobs.get("ties", "efron"),
            "model": experiment.model.name,
            "columns": list(experiment.inputs.columns),
            "headline": experiment.evaluation.headline,
            "rounds": rounds_of(experiment),
            "secure_sum": experiment.federation.secure_sum is not None,
            "sites": len(sites),
            "smallest_site": min(cohort.patients for cohort in cohorts),
            "largest_site": max(cohort.patients for cohort in cohorts),
            "judged": judged,
            "cohorts": {site.parent.name: cohort.row() for site, cohort in zip(sites, cohorts, strict=True)},
            "life_table": _life_table(experiment, read_state(states["federated"])),
            "data": {"kind": "real", "note": settings.citation},
            **tables,
        },
    )


def _followed(site: Path, experiment: Experiment) -> FollowUp:
    records = all_records(Site.load(site), experiment)
    first = records.first_of_each()
    times = np.zeros(0) if first.times is None else first.times
    return follow_up_of(times, first.labels, patients=records.patients, visits=len(records), kinds=len(experiment.data.classes) - 1)


def _ratios(experiment: Experiment, state: State) -> dict[str, Any]:
    """Return what a Cox model says of each column; of another model nothing."""
    if experiment.model.name != "cox":
        return {}
    parts = {"columns": hazard_table(state) | {"scale": state["scale"]}, "proportionality": proportionality(state), "profile": profile_table(state)}
    return {name: {key: [_number(v) for v in values] for key, values in part.items()} for name, part in parts.items()}


def _life_table(experiment: Experiment, state: State) -> dict[str, Any] | None:
    """Return the federation's life table, where the experiment asks for one."""
    if not any(choice.name == "life_table" for choice in experiment.statistics or ()):
        return None
    fit = fit_of(state, "life_table")
    table = told_table(fit)
    parts = {"times": table.times.tolist(), "at_risk": table.at_risk.tolist(), "events": table.events.tolist()}
    return {"patients": int(fit["n"][0]), "causes": list(experiment.data.classes[1:]), **parts}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
