"""Judging: the global model on the held-out hospital, beside each hospital alone and all pooled; then the files of the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from server.phases import strategy_in_words
from server.runs.drawn import drawn_facts
from server.runs.log import last_of_training, patients_of, read_rounds
from server.runs.stopping import told_of_release
from shared_models.bundle import write_bundle
from shared_models.calibrated import calibration_facts
from shared_models.catalogue import source_of
from shared_models.core.files import read_json, read_state, sha256_file, write_json
from shared_models.metrics import METRICS, describe_predictions, score
from shared_models.metrics.scoring import compare
from sim.baselines import POOLED
from sim.evidence import draw_pictures, run_facts
from sim.generation import reports_of, told_of
from sim.one_shot import ONE_SHOT, calls_at_home, one_shot
from sim.operating import judge_point
from sim.pool import Pool
from sim.run import Run
from sim.settings import Phantoms, simulation_of

PHANTOM_NOTE = "Synthetic phantoms made by this program. The figures say how the software behaves and nothing about patients."


def judge_phantoms(run: Run, training: list[Path], held_out: list[Path], pool: Pool, steps: dict[str, int]) -> None:
    """Predict, score, and write metrics.json, curves.json, run.json, the bundle and the pictures into the run folder."""
    experiment, out = run.experiment, run.out
    text = experiment.for_sites().to_json()
    final = out / "federation" / "final.safetensors"
    names = [site.parent.name for site in training]
    away = [str(site) for site in held_out]
    states = {"federated": final, POOLED: out / "baselines" / f"{POOLED}.safetensors"} | {n: out / "baselines" / f"{n}.safetensors" for n in names}
    calls = [(text, str(state), away, "all") for state in states.values()] + [(text, str(final), [str(site)], "validation") for site in training]
    answers = pool.map("sim.tasks", "predictions", [*calls, *calls_at_home(experiment, [states[name] for name in names], training)])
    personal = pool.map("sim.tasks", "personal_predictions", [(text, str(final), str(site), "validation") for site in training])
    away_answers = dict(zip(states, answers, strict=False))
    home_answers = dict(zip(names, answers[len(states) : len(calls)], strict=True))
    away_answers[ONE_SHOT] = one_shot(experiment, [away_answers[name] for name in names], answers[len(calls) :])

    def scored(answer: Any) -> dict[str, Any]:
        labels, probabilities, patients = answer
        return score(labels, probabilities, experiment.data.classes, groups=patients, seed=experiment.seed, bootstrap=experiment.evaluation.bootstrap)

    def difference(others: list[str]) -> dict[str, Any]:
        labels, probabilities, patients = away_answers["federated"]
        theirs = [away_answers[name][1] for name in others]
        headline = experiment.evaluation.headline
        classes, seed, times = experiment.data.classes, experiment.seed, experiment.evaluation.bootstrap
        return {headline: compare(METRICS[headline], labels, probabilities, theirs, classes, groups=patients, seed=seed, bootstrap=times)}

    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "classes": list(experiment.data.classes),
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "phantom", "note": PHANTOM_NOTE},
        "federated": {
            "held_out": scored(away_answers["federated"]) | judge_point(experiment, final, away, pool),
            "sites": {name: scored(home_answers[name]) for name in names},
        }
        | personal_part({name: scored(answer) for name, answer in zip(names, personal, strict=True) if answer is not None}),
        "local_only": {name: {"held_out": scored(away_answers[name])} for name in names},
        "pooled": {"held_out": scored(away_answers[POOLED])},
        ONE_SHOT: {"held_out": scored(away_answers[ONE_SHOT])},
        "headline": experiment.evaluation.headline,
        "differences": {"local_only": difference(names), "pooled": difference([POOLED])},
    }
    write_json(out / "metrics.json", metrics)

    def described(answer: Any) -> dict[str, Any]:
        return describe_predictions(answer[0], answer[1], experiment.data.classes)

    write_json(
        out / "curves.json",
        {
            "federated": {"held_out": described(away_answers["federated"])},
            POOLED: {"held_out": described(away_answers[POOLED])},
            ONE_SHOT: {"held_out": described(away_answers[ONE_SHOT])},
            "local_only": {name: {"held_out": described(away_answers[name])} for name in names},
        },
    )
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    digest = release(run, metrics, training)
    if drawn := reports_of(experiment, training):
        write_json(out / "generation.json", drawn)
    write_json(out / "site_reports.json", site_reports(training + held_out))
    write_json(out / "run.json", run_facts(run, training, held_out, steps, bundle=digest))
    draw_pictures(run, held_out)


def personal_part(cells: dict[str, Any]) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the sites' personal models, each on its own site's patients; nothing when there are none."""
    return {"personal": cells} if cells else {}


def release(run: Run, metrics: dict[str, Any], training: list[Path]) -> str:
    """Write the bundle of the federated model and return its digest."""
    experiment, out = run.experiment, run.out
    rounds = read_rounds(out / "federation" / "rounds.jsonl")
    settings = simulation_of(experiment)
    card = {
        "trained_on": "phantoms",
        "intended_use": "Showing that the software works, on synthetic phantoms. Nothing else.",
        "training": {
            "hospitals": ", ".join(site.parent.name for site in training),
            "held_out": ", ".join(settings.held_out) if isinstance(settings, Phantoms) else "folds",
            "patients": patients_of(last) if (last := last_of_training(rounds)) else None,
            "rounds": len(rounds) or experiment.federation.rounds,
            **told_of_release(out / "federation", experiment),
            "degraded_rounds": sum(r["degraded"] for r in rounds),
            "strategy": strategy_in_words(experiment),
            "differential_privacy": "none",
        },
        "performance_on_the_held_out_hospital": metrics["federated"].get("held_out", {}),
        **({"calibration": calibration_facts(experiment, read_state(out / "federation" / "final.safetensors"))} if experiment.calibration else {}),
        **drawn_facts(experiment, told_of(reports_of(experiment, training))),
        **({"agreement": metrics["agreement"]["held_out"]} if "agreement" in metrics else {}),
        "limits": [
            "Trained on synthetic phantoms: it has never seen a patient and says nothing about patients.",
            "Not validated for any clinical purpose.",
        ],
        "source": source_of(experiment.model, experiment.preparation.features),
        "weights_sha256": sha256_file(out / "federation" / "final.safetensors"),
    }
    shutil.rmtree(out / "bundle", ignore_errors=True)
    return write_bundle(out / "bundle", state=read_state(out / "federation" / "final.safetensors"), experiment=experiment, card=card)


def site_reports(sites: list[Path]) -> dict[str, Any]:
    """Return what each site's preparation accepted, skipped and quarantined, with the findings counted."""
    out = {}
    for site in sites:
        path = site.parent / "workspace" / "report.json"
        if not path.exists():
            continue
        report = read_json(path)
        findings: dict[str, int] = {}
        for item in report["accepted"]:
            for finding in item["findings"]:
                code = finding["code"] if isinstance(finding, dict) else str(finding)
                findings[code] = findings.get(code, 0) + 1
        out[site.parent.name] = {kind: len(report[kind]) for kind in ("accepted", "skipped", "quarantined")} | {
            "findings": dict(sorted(findings.items()))
        }
    return out
