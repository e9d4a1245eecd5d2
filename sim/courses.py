"""A federation over phantom hospitals of which no image is made: visits, lung function and outcomes of the very same patients, in seconds.

<out>/hospitals/<name>/   site.toml, table.csv
<out>/truth/<name>/       truth.json, which no client opens
all else as of phantoms with images  (`sim/simulation`)
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from shared_models.core.files import read_json, write_atomic, write_json
from shared_models.patterns import PATTERNS
from sim.baselines import train_baselines
from sim.federation import federate
from sim.hospital.plan import PatientPlan, plan_hospital
from sim.hospital.preset import HospitalPreset
from sim.phantom.diseases import fibrosis_of
from sim.pool import Pool
from sim.prognosis import judge_prognosis
from sim.progress import Progress
from sim.run import Run
from sim.settings import Courses

MEASURED = tuple(name for name in PATTERNS if name != "normal")
"""Patterns whose extents a visit tells, as ``PATTERN_percent``."""

HEADER = (
    *("patient_id", "years", "diagnosis", "age", "male", "ever_smoker", "fvc_percent", "dlco_percent"),
    *(f"{name}_percent" for name in MEASURED),
    *("diseased_percent", "time_years", "event"),
)
"""Columns of ``table.csv``; ``diseased_percent`` is the sum of the measured extents, time and event count from the first visit."""


def federate_courses(run: Run, settings: Courses, progress: Progress) -> Path:
    """Draw the hospitals, federate, train the baselines, judge the prognosis; return the report's path."""
    with Pool(run.cores, experiment=run.experiment.for_sites().to_json()) as pool:
        with run.clock.phase("hospitals"):
            sites = [write_hospital(preset, settings, run.out, seed=run.experiment.seed) for preset in settings.presets()]
        training = [site for site in sites if site.parent.name not in settings.held_out]
        held_out = [site for site in sites if site.parent.name in settings.held_out]
        with run.clock.phase("federate"):
            federate(run, training, run.out / "federation", pool, progress)
        with run.clock.phase("baselines"):
            steps = train_baselines(run.experiment, training, run.out, pool, progress)
        with run.clock.phase("judge"):
            judge_prognosis(run, training, held_out, pool, steps)
    facts = read_json(run.out / "run.json")
    for site in facts["sites"]:
        site["cases"] = len({visit["patient_id"] for visit in read_json(run.out / "truth" / site["name"] / "truth.json")["visits"]})
    write_json(run.out / "run.json", facts)
    from server.reports.report import write_report

    with run.clock.phase("report"):
        return write_report(run.out)


def write_hospital(preset: HospitalPreset, settings: Courses, out: Path, *, seed: int) -> Path:
    """Write a hospital's table of visits, its site TOML and the truth; return the TOML's path."""
    folder, truth, text = out / "hospitals" / preset.name, [], io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for plan in plan_hospital(preset, seed=seed):
        rng = np.random.default_rng([plan.seed, 0xE4404])
        for row, visit in zip(visit_rows(preset, plan, settings.error_percent, rng), plan.course.visits, strict=True):
            writer.writerow(row)
            known = {"fibrosis": fibrosis_of(visit.extents), "log_hazard": plan.course.log_hazard}
            truth.append({"patient_id": row[0], "class": plan.klass, **known})
    for place in (folder, out / "truth" / preset.name):
        place.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "table.csv", text.getvalue().encode(), durable=False)
    write_atomic(folder / "site.toml", f'[site]\nname = "{preset.name}"\ntable = "table.csv"\n'.encode(), durable=False)
    write_json(out / "truth" / preset.name / "truth.json", {"visits": truth}, durable=False)
    return folder / "site.toml"


def visit_rows(preset: HospitalPreset, plan: PatientPlan, error_percent: float, rng: np.random.Generator) -> list[list[str]]:
    """Return the rows of a patient's visits, one a visit, with measured extents: the planted ones and an error, never below 0."""
    person, first, rows = plan.course.person, plan.course.visits[0], []
    for visit in plan.course.visits:
        extents = [max(0.0, visit.extents.get(name, 0.0) + rng.normal(0, error_percent)) for name in MEASURED]
        told = [visit.years, person.age + visit.years, float(person.sex == "M"), float(person.smoking != "never")]
        tests = ["" if plan.missing_fvc else f"{visit.fvc_percent:.1f}", "" if plan.missing_dlco else f"{visit.dlco_percent:.1f}"]
        patient = f"PHANTOM-{preset.name}-{plan.number + 1:04d}"
        row = [patient, f"{told[0]:.3f}", plan.diagnosis, *(f"{value:g}" for value in told[1:]), *tests]
        measured = [f"{value:.2f}" for value in (*extents, sum(extents))]
        rows.append([*row, *measured, f"{first.time_years:.4f}", str(int(first.event))])
    return rows
