"""The whole way of a simulation: hospitals, preparation, federation, baselines, judgement, bundle, report. Each phase leaves its files; a
resumed run takes up where they end.

    <out>/hospitals/<name>/   site.toml, dicom/, clinical.csv, workspace/     what a hospital has
    <out>/truth/              what only the simulation knows; no client opens it
    <out>/federation/         start, checkpoints, final state
    <out>/baselines/          each hospital alone, all hospitals pooled
    <out>/metrics.json rounds.jsonl curves.json run.json bundle/ report.html
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from server.runs.tracking import known_tracker, tell_final
from server.runs.tracking import track as choose_tracker
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, sha256_file, write_atomic, write_json
from shared_models.experiment import Experiment
from sim.check import faults
from sim.hospital_store import borrow, keep
from sim.pool import Pool
from sim.progress import Progress
from sim.run import Clock, Run
from sim.settings import Courses, OneTable, Patches, Phantoms, Tables, simulation_of

if TYPE_CHECKING:
    pass


def simulate(
    experiment: Experiment,
    out: Path,
    *,
    backend: str = "pool",
    ray_address: str | None = None,
    processes: int | None = None,
    data: Path | None = None,
    hospitals: Path | None = None,
    resume: bool = False,
    track: str | None = None,
    quiet: bool = False,
) -> Path:
    """Run a whole simulation and return the path of its report.

    Parameters
    ----------
    experiment : Experiment
        With a ``[simulation]``.
    out : Path
        Run folder. It must be new, or hold a run of the same experiment and `resume` be set.
    backend : str
        ``pool`` or ``ray``; same seeds give the same weights on both.
    processes : int, optional
        Worker processes; one a core by default.
    data : Path, optional
        Folder of real data for experiments that name a file of it.
    hospitals : Path, optional
        Folder of prepared phantom hospitals that several runs share (`sim/hospital_store`).
    track : str, optional
        A line of TRACKERS: where the numbers of the rounds are shown beside the run's own files. No part of the experiment.

    Raises
    ------
    BadInput
        Faults of the experiment, an unknown backend, or a folder that is in use.
    """
    from shared_models.core.errors import BadExperiment

    if backend not in ("pool", "ray"):
        raise BadInput("the backend is pool or ray", value=backend)
    if wrong := faults(experiment):
        raise BadExperiment(f"experiment {experiment.name}", faults=wrong)
    settings = simulation_of(experiment)
    cores = processes or len(os.sched_getaffinity(0))
    out = out.resolve()
    track = None if track is None else known_tracker(track)
    claim(out, experiment, resume=resume)
    if track is not None:
        choose_tracker(out, track)
    clock = Clock(out / "times.json", read_json(out / "times.json") if (out / "times.json").exists() else {})
    run = Run(experiment, out, backend, ray_address, cores, clock)
    with Progress(quiet=quiet) as progress:
        report = _simulated(run, settings, progress, data, hospitals)
    from server.runs.record import seal_run

    if (out / "metrics.json").exists():
        tell_final(out, experiment, read_json(out / "metrics.json"))
    cohorts = {path.parents[1].name: sha256_file(path) for path in sorted((out / "hospitals").glob("*/workspace/cohort.json"))}
    seal_run(out, cohorts=cohorts)
    return report


def _simulated(run: Run, settings: Phantoms | Patches | Tables | OneTable, progress: Progress, data: Path | None, hospitals: Path | None) -> Path:
    if isinstance(settings, Patches):
        from sim.crossvalidation import cross_validate

        return cross_validate(run, settings, data, progress)
    if isinstance(settings, Tables):
        from sim.hospital_tables import federate_tables

        return federate_tables(run, settings, data, progress)
    if isinstance(settings, OneTable):
        from sim.survival import federate_survival

        return federate_survival(run, settings, data, progress)
    if isinstance(settings, Courses):
        from sim.courses import federate_courses

        return federate_courses(run, settings, progress)
    return _simulate_phantoms(run, settings, progress, hospitals)


def _simulate_phantoms(run: Run, settings: Phantoms, progress: Progress, store: Path | None) -> Path:
    experiment, out = run.experiment, run.out
    if experiment.evaluation.folds is not None and experiment.evaluation.fold is None:
        remedy = "`fedild cross-validate` runs one after another; for a single one name it: evaluation.fold = 1"
        raise BadInput("a run holds out one fold of the hospitals' patients", value=f"folds = {experiment.evaluation.folds}", remedy=remedy)
    # The processes import torch while this one makes hospitals: nobody waits for an import.
    with Pool(run.cores, experiment=experiment.for_sites().to_json()) as pool:
        with run.clock.phase("hospitals"):
            if store is not None:
                borrow(store, settings.presets(), experiment, out)
            sites = make_phantoms(experiment, out, processes=run.cores, progress=progress)
        with run.clock.phase("prepare"):
            prepare_sites(experiment, sites, processes=run.cores, progress=progress)
            if store is not None and not (out / "federation").exists():  # a resumed run's workspaces hold more than their preparation
                keep(store, settings.presets(), experiment, out)
        training = [site for site in sites if site.parent.name not in settings.held_out]
        held_out = [site for site in sites if site.parent.name in settings.held_out]
        with run.clock.phase("federate"):
            from sim.federation import federate

            federate(run, training, out / "federation", pool, progress)
        with run.clock.phase("baselines"):
            from sim.baselines import train_baselines

            steps = train_baselines(experiment, training, out, pool, progress)
        with run.clock.phase("judge"):
            if experiment.data.target == "segmentation":
                from sim.pixels import judge_pixels as judge
            elif experiment.data.target == "reconstruction":
                from sim.reconstruction import judge_reconstruction as judge
            elif experiment.data.target == "survival":
                from sim.prognosis import judge_prognosis as judge
            elif experiment.data.target == "findings":
                from sim.told_findings import judge_findings as judge
            else:
                from sim.judgement import judge_phantoms as judge

            judge(run, training, held_out, pool, steps)
    with run.clock.phase("report"):
        from server.reports.report import write_report

        report = write_report(out)
    # The report shows its own time only when it is written again; everything else is in it.
    return report


def make_phantoms(
    experiment: Experiment, out: Path, *, processes: int | None = None, quiet: bool = True, progress: Progress | None = None
) -> list[Path]:
    """Make the experiment's phantom hospitals under ``out/hospitals`` with the truth in ``out/truth``; return their site TOMLs.

    Hospitals that are already whole are kept.
    """
    from sim.hospital.hospital import make_hospitals

    settings = simulation_of(experiment)
    if not isinstance(settings, Phantoms):
        raise BadInput("this experiment has no phantom hospitals", value=experiment.name)
    presets = settings.presets()
    todo = [preset for preset in presets if not (out / "hospitals" / preset.name / "clinical.csv").exists()]
    for preset in todo:
        shutil.rmtree(out / "hospitals" / preset.name, ignore_errors=True)
        shutil.rmtree(out / "truth" / preset.name, ignore_errors=True)
    step = (progress or Progress(quiet=quiet)).bar("making hospitals")
    total, made = sum(preset.patients for preset in todo), 0

    def told(name: str, done: int, of: int) -> None:
        nonlocal made
        del name, done, of
        made += 1
        step(made, total)

    if todo:
        cores = processes or len(os.sched_getaffinity(0))
        make_hospitals(todo, out / "hospitals", out / "truth", seed=experiment.seed, processes=cores, on_patient=told)
    paths = []
    for preset in presets:
        path = out / "hospitals" / preset.name / "site.toml"
        if not path.exists():
            drawn = 'annotations = "annotations"\n' if preset.annotated else ""
            write_atomic(path, f'[site]\nname = "{preset.name}"\n{drawn}'.encode(), durable=False)
        paths.append(path)
    return paths


def prepare_sites(experiment: Experiment, sites: list[Path], *, processes: int, progress: Progress) -> None:
    """Let every hospital's client prepare its studies."""
    from client.prepare import prepare_folder
    from client.site import Site
    from sim.hospital.key import phantom_secret

    step = progress.bar("preparing studies")
    totals: dict[str, tuple[int, int]] = {}
    for path in sites:
        site = Site.load(path)
        if (site.workspace / "cohort.json").exists():
            continue

        def told(done: int, total: int, name: str = site.site.name) -> None:
            totals[name] = (done, total)
            step(sum(d for d, _ in totals.values()), sum(t for _, t in totals.values()))

        secret = phantom_secret(experiment.seed, site.site.name)
        folder, clinical = site.path(site.site.inbox), site.path(site.site.clinical)
        drawn = None if site.site.annotations is None else site.path(site.site.annotations)
        prepare_folder(
            folder, site.workspace, experiment.preparation, secret=secret, clinical=clinical, processes=processes, annotations=drawn, progress=told
        )


def claim(out: Path, experiment: Experiment, *, resume: bool) -> None:
    """Take a run folder for an experiment, or with `resume` find it again.

    Raises
    ------
    BadInput
        It holds something else, another experiment, or without `resume` this one.
    """
    note = out / "experiment.json"
    if note.exists():
        if not resume:
            raise BadInput("the run folder must be new", value=str(out), remedy="choose another --out, or continue the run with --resume")
        if note.read_text(encoding="utf-8") != experiment.to_json():
            raise BadInput("a run is resumed with the experiment it was started with", remedy="use the same TOML, seed and --set, or another --out")
        return
    if out.exists() and any(out.iterdir()):
        raise BadInput("the run folder must be new or empty", value=str(out), remedy="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "experiment.json", experiment.to_json().encode())
    write_json(out / "command.json", {"arguments": [Path(sys.argv[0]).name, *sys.argv[1:]], "started": time.strftime("%Y-%m-%d %H:%M:%S")})
