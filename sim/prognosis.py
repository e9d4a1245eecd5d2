"""Judging a prognosis: the global model on the held-out hospital, beside each hospital alone, all pooled, and the risk that was planted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from client.cases.identity import Pseudonyms, canonical_id
from client.prognosis import states_risks
from shared_models.classical.cox import hazard_table, proportionality
from shared_models.core.files import read_json, read_state, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import score
from shared_models.metrics.prognosis import compare_prognosis, score_prognosis
from shared_models.metrics.prognosis_curves import describe_prognosis, told_at_horizons
from shared_models.metrics.spec import number
from shared_models.phases import columns_of, trained
from sim.baselines import POOLED
from sim.evidence import draw_pictures, run_facts
from sim.hospital.key import phantom_secret
from sim.judgement import PHANTOM_NOTE, personal_part, release, site_reports
from sim.one_shot import ONE_SHOT
from sim.pool import Pool
from sim.run import Run

PLANTED = "planted_risk"
"""The arm that knows what was planted: no model can order patients better, but for luck."""
PLANTED_FIBROSIS = "planted_fibrosis"
"""The arm that knows the fibrosis of the first CT to the voxel, and neither age nor sex: about the best by which that image can order patients under
the laws of hazard by fibrosis (a class tells a little of age and sex; under ``progression`` it is growth that kills)."""

Answer = tuple[list[list[float]], list[list[float]], list[str]]
"""Outcomes, predictions and names, as `sim.tasks.prognoses` gives them."""


def judge_prognosis(run: Run, training: list[Path], held_out: list[Path], pool: Pool, steps: dict[str, int]) -> None:
    """Predict, score, and write metrics.json, curves.json, run.json, the bundle and the pictures into the run folder.

    Some models state risks at the horizons; others, of hazard ratios, order patients, and what needs a risk is left out. The held-out hospital is
    judged on every visit that the model reads, the training hospitals on the first of their validation patients.
    """
    experiment, out = run.experiment, run.out
    text = experiment.for_sites().to_json()
    final = out / "federation" / "final.safetensors"
    names = [site.parent.name for site in training]
    away = [str(site) for site in held_out]
    states = {"federated": final, POOLED: out / "baselines" / f"{POOLED}.safetensors"} | {n: out / "baselines" / f"{n}.safetensors" for n in names}
    calls: list[tuple[Any, ...]] = [(text, str(state), away, "all") for state in states.values()]
    calls += [(text, str(final), [str(site)], "validation") for site in training]
    answers = pool.map("sim.tasks", "prognoses", [*calls, *((text, str(final), [str(site)], "validation", True) for site in training)])
    personal = answers[len(calls) :]
    away_answers: dict[str, Answer] = dict(zip(states, answers, strict=False))
    home_answers = dict(zip(names, answers[len(states) : len(calls)], strict=True))
    outcomes, _, patients = away_answers["federated"]
    away_answers[ONE_SHOT] = (outcomes, np.mean([away_answers[name][1] for name in names], axis=0).tolist(), patients)
    horizons, absolute = experiment.data.horizons, states_risks(experiment)

    def scored(answer: Answer, *, absolute: bool = absolute) -> dict[str, Any]:
        seed, times = experiment.seed, experiment.evaluation.bootstrap
        return score_prognosis(answer[0], answer[1], horizons, absolute=absolute, groups=answer[2], seed=seed, bootstrap=times)

    def difference(others: list[str]) -> dict[str, Any]:
        theirs, seed, times = [away_answers[name][1] for name in others], experiment.seed, experiment.evaluation.bootstrap
        ours, name = away_answers["federated"], experiment.evaluation.headline
        found = compare_prognosis(name, ours[0], ours[1], theirs, horizons, absolute=absolute, groups=ours[2], seed=seed, bootstrap=times)
        return {name: found}

    metrics: dict[str, Any] = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "target": "survival",
        "horizons": list(horizons),
        "time_unit": "years",
        "case": "scan" if experiment.inputs.visits == "all" else "patient",
        "classes": [],
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "phantom", "note": PHANTOM_NOTE},
        "federated": {"held_out": scored(away_answers["federated"]), "sites": {name: scored(home_answers[name]) for name in names}}
        | personal_part({name: scored(answer) for name, answer in zip(names, personal, strict=True) if answer is not None}),
        "local_only": {name: {"held_out": scored(away_answers[name])} for name in names},
        "pooled": {"held_out": scored(away_answers[POOLED])},
        ONE_SHOT: {"held_out": scored(away_answers[ONE_SHOT])},
        PLANTED: {"held_out": scored((outcomes, planted_risks(run, held_out, patients), patients), absolute=False)},
        PLANTED_FIBROSIS: {"held_out": scored((outcomes, planted_risks(run, held_out, patients, "fibrosis"), patients), absolute=False)},
        "headline": experiment.evaluation.headline,
        "differences": {"local_only": difference(names), "pooled": difference([POOLED])},
    }
    if experiment.data.diagnoses:
        metrics["diagnoses"] = told_diagnoses(run, {"federated": final, POOLED: states[POOLED]}, away, pool)
    if (hazards := hazards_of(experiment, {"federated": final, POOLED: states[POOLED]})) is not None:
        metrics["hazards"] = hazards

    def described(answer: Answer) -> dict[str, Any]:
        seed, times = experiment.seed, experiment.evaluation.bootstrap
        return describe_prognosis(answer[0], answer[1], horizons, absolute=absolute, groups=answer[2], seed=seed, bootstrap=times)

    drawn = {name: described(away_answers[name]) for name in ("federated", POOLED)}
    if absolute:
        metrics["at_horizons"] = {name: told_at_horizons(of) for name, of in drawn.items()}
    write_json(out / "metrics.json", metrics)
    write_json(out / "curves.json", {name: {"held_out": {"n": of["n"], "prognosis": of}} for name, of in drawn.items()})
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    digest = release(run, metrics, training)
    write_json(out / "site_reports.json", site_reports(training + held_out))
    write_json(out / "run.json", run_facts(run, training, held_out, steps, bundle=digest))
    draw_pictures(run, held_out)


def planted_risks(run: Run, hospitals: list[Path], patients: list[str], what: str = "log_hazard") -> list[list[float]]:
    """Return the planted log hazard of each record's patient, or another planted number of its first visit, shape (n, 1)."""
    known: dict[str, float] = {}
    for site in hospitals:
        tables = run.experiment.data.kind == "table"  # there the patients' own numbers are their names
        patient = canonical_id if tables else Pseudonyms(phantom_secret(run.experiment.seed, site.parent.name)).patient
        visits = read_json(run.out / "truth" / site.parent.name / "truth.json")["visits"]
        known |= {patient(visit["patient_id"]): float(visit[what]) for visit in reversed(visits)}
    return [[known[name]] for name in patients]


def told_diagnoses(run: Run, states: dict[str, Path], away: list[str], pool: Pool) -> dict[str, Any]:
    """Return how well the second head of each arm names the diagnosis of the held-out patients whose diagnosis is one of the experiment's."""
    experiment, text = run.experiment, run.experiment.for_sites().to_json()
    classes, found = experiment.data.diagnoses, {}
    answers = pool.map("sim.tasks", "diagnoses", [(text, str(state), away) for state in states.values()])
    for name, (labels, probabilities, patients) in zip(states, answers, strict=True):
        seed, times = experiment.seed, experiment.evaluation.bootstrap
        found[name] = score(labels, probabilities, classes, groups=patients, seed=seed, bootstrap=times)
    return {"classes": list(classes), **found}


def hazards_of(experiment: Experiment, states: dict[str, Path]) -> dict[str, Any] | None:
    """Return the hazard ratios of each arm by column, the spread of the columns, and whether ratios are steady; None of other models."""
    if experiment.model.name != "cox":
        return None
    found: dict[str, Any] = {"columns": list(columns_of(experiment))}
    for name, path in states.items():
        state = trained(read_state(path))
        found.setdefault("scale", state["scale"].tolist())
        tables = {"columns": hazard_table(state), "proportionality": proportionality(state)}
        found[name] = {what: {key: [number(value) for value in values] for key, values in table.items()} for what, table in tables.items()}
    return found
