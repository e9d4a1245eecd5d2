"""Judging what labels pixels: the global model on the held-out hospital, beside each hospital alone and all pooled; Dice and extents by patient."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.files import write_json
from shared_models.metrics.segmentation import SEGMENTATION_METRICS, compare_pixels, extent_agreement, score_pixels
from sim.baselines import POOLED
from sim.evidence import draw_pictures, run_facts
from sim.extents import part_agreement
from sim.judgement import PHANTOM_NOTE, personal_part, release, site_reports
from sim.pool import Pool
from sim.run import Run


def judge_pixels(run: Run, training: list[Path], held_out: list[Path], pool: Pool, steps: dict[str, int]) -> None:
    """Label, score, and write metrics.json, run.json, the bundle and the pictures into the run folder.

    The held-out hospital is judged on every annotated slice of each patient, the training hospitals on the slices that training would see of
    their validation patients. Lungs are compared with the hospital's own prepared mask, patterns with what its readers have drawn inside it.
    """
    experiment, out = run.experiment, run.out
    text = experiment.for_sites().to_json()
    final = out / "federation" / "final.safetensors"
    names = [site.parent.name for site in training]
    away = [str(site) for site in held_out]
    states = {"federated": final, POOLED: out / "baselines" / f"{POOLED}.safetensors"} | {n: out / "baselines" / f"{n}.safetensors" for n in names}
    calls = [(text, str(state), [site], "all") for state in states.values() for site in away]
    calls += [(text, str(final), [str(site)], "validation") for site in training]
    answers = [np.array(answer) for answer in pool.map("sim.tasks", "pixel_judgement", calls)]
    personal = pool.map("sim.tasks", "pixel_judgement", [(text, str(final), [str(site)], "validation", True) for site in training])
    by_site = {name: dict(zip(away, answers[len(away) * place :], strict=False)) for place, name in enumerate(states)}
    away_tables = {name: np.concatenate(list(tables.values())) for name, tables in by_site.items()}
    home_tables = dict(zip(names, answers[len(states) * len(away) :], strict=True))
    classes, seed, times = experiment.data.classes, experiment.seed, experiment.evaluation.bootstrap

    def scored(tables: Any) -> dict[str, Any]:
        tables = np.asarray(tables).reshape(-1, len(classes), len(classes))
        return score_pixels(tables, classes, seed=seed, bootstrap=times)

    def difference(others: list[str]) -> dict[str, Any]:
        theirs = [away_tables[name] for name in others]
        return {name: compare_pixels(away_tables["federated"], theirs, name, seed=seed, bootstrap=times) for name in SEGMENTATION_METRICS}

    metrics = {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "classes": list(classes),
        "rounds": experiment.federation.rounds,
        "wall_s": dict(run.clock.phases),
        "data": {"kind": "phantom", "note": PHANTOM_NOTE},
        "federated": {"held_out": scored(away_tables["federated"]), "sites": {name: scored(home_tables[name]) for name in names}}
        | personal_part({name: scored(answer) for name, answer in zip(names, personal, strict=True) if answer is not None}),
        "local_only": {name: {"held_out": scored(away_tables[name])} for name in names},
        "pooled": {"held_out": scored(away_tables[POOLED])},
        "headline": experiment.evaluation.headline,
        "differences": {"local_only": difference(names), "pooled": difference([POOLED])},
        "extents": {name: extent_agreement(away_tables[name], classes) for name in ("federated", POOLED)},
        "agreement": {
            "held_out": part_agreement(away_tables["federated"], experiment.data),
            "sites": {Path(site).parent.name: part_agreement(tables, experiment.data) for site, tables in by_site["federated"].items()},
        },
    }
    write_json(out / "metrics.json", metrics)
    write_json(out / "curves.json", {})
    shutil.copyfile(out / "federation" / "rounds.jsonl", out / "rounds.jsonl")
    digest = release(run, metrics, training)
    write_json(out / "site_reports.json", site_reports(training + held_out))
    write_json(out / "run.json", run_facts(run, training, held_out, steps, bundle=digest))
    draw_pictures(run, held_out)
