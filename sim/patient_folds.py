"""`fedild cross-validate`: each hospital's patients are dealt into folds; one federation a fold learns from all others and is judged on that fold.

    <out>/hospitals/ truth/          made and prepared once
    <out>/fold-N/federation/         the federation that never saw fold N
    <out>/fold-N/answers.json        what its model says of fold N; a fold that has it is finished
    <out>/crossvalidation.json .html

The deal is the site's own (`client/selection`): nothing about it travels but ``evaluation.folds`` and ``evaluation.fold``. Hospitals that the
simulation holds out take no part: they stay unseen, whatever is chosen by the folds' figures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from client.prognosis import states_risks
from shared_models.core.choices import validated
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from shared_models.metrics.prognosis import score_prognosis
from sim.check import faults
from sim.federation import federate
from sim.hospital_store import borrow, keep
from sim.pool import Pool
from sim.prognosis import planted_risks
from sim.progress import Progress
from sim.run import Clock, Run
from sim.settings import Phantoms, simulation_of
from sim.simulation import claim, make_phantoms, prepare_sites

FOLDS = 5
"""Of an experiment that names none."""

Answer = Mapping[str, Any]
"""``outcomes`` (n, 3), ``risks`` (n, horizons) or scores (n, 1), ``patients`` (n,) and the ``planted`` log hazards (n, 1) of a fold's scans."""


def cross_validate(
    experiment: Experiment,
    out: Path,
    *,
    folds: int | None = None,
    processes: int | None = None,
    hospitals: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Run all folds that are not finished, write the figures and the page, and return the page's path.

    Parameters
    ----------
    experiment : Experiment
        Of survival, over phantom hospitals.
    out : Path
        New, or the folder of the same cross-validation, which goes on.
    folds : int, optional
        In place of ``evaluation.folds``; 5 where neither says.
    processes : int, optional
        Worker processes; one a core by default.
    hospitals : Path, optional
        Folder of prepared phantom hospitals that several runs share (`sim/hospital_store`).

    Raises
    ------
    BadInput
        Faults of the experiment, a target or simulation that is not cross-validated here, or a folder that is in use.
    """
    whole = of_fold(experiment, folds or experiment.evaluation.folds or FOLDS, None)
    count = whole.evaluation.folds or FOLDS
    if wrong := faults(of_fold(whole, count, 1)):
        raise BadExperiment(f"experiment {experiment.name}", faults=wrong)
    settings = simulation_of(whole)
    if type(settings) is not Phantoms or whole.data.target != "survival":
        remedy = "patches have `fedild simulate`, tables `fedild compare`; at real sites set evaluation.folds and evaluation.fold"
        raise BadInput("folds of patients are simulated for survival over phantom hospitals", value=whole.data.target, remedy=remedy)
    out = out.resolve()
    claim(out, whole, resume=True)
    cores = processes or len(os.sched_getaffinity(0))
    clock = Clock(out / "times.json", read_json(out / "times.json") if (out / "times.json").exists() else {})
    with Progress(quiet=quiet) as progress, Pool(cores, experiment=of_fold(whole, count, 1).for_sites().to_json()) as pool:
        with clock.phase("hospitals"):
            if hospitals is not None:
                borrow(hospitals, settings.presets(), whole, out)
            sites = make_phantoms(whole, out, processes=cores, progress=progress)
            prepare_sites(whole, sites, processes=cores, progress=progress)
            if hospitals is not None and not (out / "fold-1").exists():  # later, workspaces hold more than their preparation
                keep(hospitals, settings.presets(), whole, out)
        training = [site for site in sites if site.parent.name not in settings.held_out]
        answers = []
        for number in range(1, count + 1):
            here = out / f"fold-{number}"
            if not (here / "answers.json").exists():
                run = Run(of_fold(whole, count, number), here, "pool", None, cores, clock)
                with clock.phase("folds"):
                    federate(run, training, here / "federation", pool, progress)
                    write_json(here / "answers.json", _answer(run, out, training, pool))
            answers.append(read_json(here / "answers.json"))
    write_json(out / "crossvalidation.json", figures(whole, answers, [site.parent.name for site in training]) | {"wall_s": dict(clock.phases)})
    from server.reports.crossvalidation import write_crossvalidation

    return write_crossvalidation(out)


def of_fold(experiment: Experiment, count: int, number: int | None) -> Experiment:
    """Return the experiment that holds out fold `number` of `count`; None names the folds alone.

    Raises
    ------
    BadInput
        A number of folds that no experiment has, or settings that would learn from the fold.
    """
    document = experiment.model_dump(mode="json", exclude_none=True)
    document["evaluation"] = {**document["evaluation"], "folds": count, "fold": number}
    return validated(Experiment, document, what=f"experiment {experiment.name}")  # in its own order: patients of a mix are drawn class after class


def _answer(run: Run, out: Path, training: list[Path], pool: Pool) -> Answer:
    text, final = run.experiment.for_sites().to_json(), str(run.out / "federation" / "final.safetensors")
    [(outcomes, risks, patients)] = pool.map("sim.tasks", "prognoses", [(text, final, [str(site) for site in training], "held_out")])
    planted = planted_risks(Run(run.experiment, out, run.backend, None, run.cores, run.clock), training, patients)
    return {"outcomes": outcomes, "risks": risks, "patients": patients, "planted": planted}


def figures(experiment: Experiment, answers: Sequence[Answer], names: Sequence[str]) -> dict[str, Any]:
    """Return each fold's figures, their mean and standard deviation, and the figures of all folds' scans together.

    Risks are pooled as they were stated. A model that only orders patients has a scale of its own in each fold: there a scan's score is the share of
    its fold's scans that have a lower one, ties halved, so that scans of two folds are compared by their rank at home.

    Parameters
    ----------
    experiment : Experiment
        Its horizons, seed and number of resamples.
    answers : sequence of Answer
        A fold each.
    names : sequence of str
        The hospitals.

    Raises
    ------
    BadInput
        A patient is in two folds.
    """
    horizons, absolute, evaluation = experiment.data.horizons, states_risks(experiment), experiment.evaluation
    everybody = [name for answer in answers for name in set(answer["patients"])]
    if len(everybody) != len(set(everybody)):
        raise BadInput("every patient is in one fold", value=len(everybody) - len(set(everybody)), remedy="start again in a new folder")

    def scored(answer: Answer, risks: Any, *, absolute: bool, bootstrap: int) -> dict[str, Any]:
        return score_prognosis(
            answer["outcomes"], risks, horizons, absolute=absolute, groups=answer["patients"], seed=experiment.seed, bootstrap=bootstrap
        )

    folds = [scored(answer, answer["risks"], absolute=absolute, bootstrap=0) for answer in answers]
    together = {part: [row for answer in answers for row in answer[part]] for part in ("outcomes", "patients", "planted")}
    risks = [row for answer in answers for row in (answer["risks"] if absolute else ranks(answer["risks"]))]
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "seed": experiment.seed,
        "model": experiment.model.name,
        "rounds": experiment.federation.rounds,
        "hospitals": list(names),
        "case": "scan" if experiment.inputs.visits == "all" else "patient",
        "states_risks": absolute,
        "patients": [len(set(answer["patients"])) for answer in answers],
        "cases": [len(answer["patients"]) for answer in answers],
        "events": [int(sum(row[1] for row in answer["outcomes"])) for answer in answers],
        "folds": folds,
        "spread": {metric: spread([fold[metric]["value"] for fold in folds]) for metric in folds[0]},
        "pooled": scored(together, risks, absolute=absolute, bootstrap=evaluation.bootstrap),
        "planted": scored(together, together["planted"], absolute=False, bootstrap=evaluation.bootstrap),
    }


def ranks(scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return of each score (n, 1) the share of all that are lower, equal ones counting one half.

    Examples
    --------
    >>> ranks([[-3.0], [7.0], [0.5], [0.5]])
    [[0.125], [0.875], [0.5], [0.5]]
    """
    values = np.asarray(scores, np.float64).reshape(-1)
    return ((rankdata(values) - 0.5) / max(1, len(values))).reshape(-1, 1).tolist()


def spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Return mean and standard deviation over the folds in which a figure is defined, and their number.

    Examples
    --------
    >>> spread([0.5, 0.7, None])["mean"], round(spread([0.5, 0.7, None])["sd"], 4), spread([None])
    (0.6, 0.1414, {'mean': None, 'sd': None, 'folds': 0})
    """
    known = [value for value in values if value is not None]
    mean = float(np.mean(known)) if known else None
    return {"mean": mean, "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None, "folds": len(known)}
