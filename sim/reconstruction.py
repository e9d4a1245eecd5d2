"""Judging a network that learns from images alone: how much of hidden squares it draws at the held-out hospital, beside the baselines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from shared_models.core.files import write_json
from shared_models.metrics.reconstruction import score_reconstruction
from sim.baselines import POOLED
from sim.evidence import run_facts
from sim.judgement import PHANTOM_NOTE, release, site_reports
from sim.pool import Pool
from sim.run import Run


def judge_reconstruction(run: Run, training: list[Path], held_out: list[Path], pool: Pool, steps: dict[str, int]) -> None:
    """Score the federated, pooled and local models, and write metrics.json, run.json and the bundle into the run folder."""
    experiment, out = run.experiment, run.out
    text, final = experiment.for_sites().to_json(), out / "federation" / "final.safetensors"
    names, away = [site.parent.name for site in training], [str(site) for site in held_out]
    states = {"federated": final} | {name: out / "baselines" / f"{name}.safetensors" for name in (POOLED, *names)}
    calls = [(text, str(state), away, "all") for state in states.values()] + [(text, str(final), [str(site)], "validation") for site in training]
    answers = pool.map("sim.tasks", "unexplained_shares", calls)

    def scored(answer: Any) -> dict[str, Any]:
        return score_reconstruction(answer[0], groups=answer[1], seed=experiment.seed, bootstrap=experiment.evaluation.bootstrap)

    found = {name: scored(answer) for name, answer in zip(states, answers, strict=False)}
    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "target": "reconstruction",
        "classes": [],
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "phantom", "note": PHANTOM_NOTE},
        "federated": {
            "held_out": found["federated"],
            "sites": {name: scored(answer) for name, answer in zip(names, answers[len(states) :], strict=True)},
        },
        "local_only": {name: {"held_out": found[name]} for name in names},
        "pooled": {"held_out": found[POOLED]},
        "headline": experiment.evaluation.headline,
    }
    write_json(out / "metrics.json", metrics)
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    digest = release(run, metrics, training)
    write_json(out / "site_reports.json", site_reports(training + held_out))
    write_json(out / "run.json", run_facts(run, training, held_out, steps, bundle=digest))
