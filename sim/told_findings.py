"""Judging several findings at once: the global model on the held-out hospital, beside each hospital alone and all pooled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from shared_models.core.files import write_json
from shared_models.metrics.findings import FINDING_METRICS, compare_findings, score_findings
from sim.baselines import POOLED
from sim.evidence import draw_pictures, run_facts
from sim.judgement import PHANTOM_NOTE, personal_part, release, site_reports
from sim.pool import Pool
from sim.run import Run


def judge_findings(run: Run, training: list[Path], held_out: list[Path], pool: Pool, steps: dict[str, int]) -> None:
    """Predict, score, and write metrics.json, run.json, the bundle and the pictures into the run folder."""
    experiment, out = run.experiment, run.out
    text = experiment.for_sites().to_json()
    final = out / "federation" / "final.safetensors"
    names, away = [site.parent.name for site in training], [str(site) for site in held_out]
    states = {"federated": final} | {name: out / "baselines" / f"{name}.safetensors" for name in (POOLED, *names)}
    calls = [(text, str(state), away, "all") for state in states.values()] + [(text, str(final), [str(site)], "validation") for site in training]
    answers = pool.map("sim.tasks", "told_findings", calls)
    personal = pool.map("sim.tasks", "told_findings", [(text, str(final), [str(site)], "validation", True) for site in training])
    found = dict(zip(states, answers, strict=False))
    findings, seed, times = experiment.data.classes, experiment.seed, experiment.evaluation.bootstrap

    def scored(answer: Any) -> dict[str, Any]:
        return score_findings(answer[0], answer[1], findings, groups=answer[2], seed=seed, bootstrap=times)

    def difference(others: list[str]) -> dict[str, Any]:
        truth, told, patients = found["federated"]
        theirs = [found[name][1] for name in others]
        return {name: compare_findings(truth, told, theirs, name, groups=patients, seed=seed, bootstrap=times) for name in FINDING_METRICS}

    at_home = zip(names, answers[len(states) :], strict=True)
    metrics = {
        "experiment": experiment.name,
        "seed": seed,
        "target": "findings",
        "classes": list(findings),
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "phantom", "note": PHANTOM_NOTE},
        "federated": {"held_out": scored(found["federated"]), "sites": {name: scored(answer) for name, answer in at_home}}
        | personal_part({name: scored(answer) for name, answer in zip(names, personal, strict=True) if answer is not None}),
        "local_only": {name: {"held_out": scored(found[name])} for name in names},
        "pooled": {"held_out": scored(found[POOLED])},
        "headline": experiment.evaluation.headline,
        "differences": {"local_only": difference(names), "pooled": difference([POOLED])},
    }
    write_json(out / "metrics.json", metrics)
    write_json(out / "curves.json", {})
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    digest = release(run, metrics, training)
    write_json(out / "site_reports.json", site_reports(training + held_out))
    write_json(out / "run.json", run_facts(run, training, held_out, steps, bundle=digest))
    draw_pictures(run, held_out)
