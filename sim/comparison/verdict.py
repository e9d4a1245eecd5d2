"""What the finished cells say: figures of each strategy over the seeds, and paired differences from the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.core.files import read_json
from shared_models.experiment import Experiment
from shared_models.metrics import METRICS
from shared_models.metrics.paired import Group, holm, paired_t, resampled, summary, t_interval
from sim.comparison.arms import Arm
from sim.comparison.cell import read_predictions

LEVEL = 1e-9
"""Differences of a site's figure below this are level."""

Cells = Mapping[int, Mapping[str, Any]]
"""Finished cells of an arm by seed."""


def verdict(experiment: Experiment, arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """Read the cells of the arms in `folder` and return ``headline``, ``better``, ``seeds`` and ``arms``: plain JSON values.

    An arm has ``cells`` by seed (figures, or the failure), ``metrics`` (each with mean, sd and t-interval over seeds), ``patients`` (interval of
    the mean over seeds from a bootstrap over patients), ``curve`` (round, mean, least, most), ``against`` (the paired t-test over seeds and the
    paired bootstrap over patients; None for the first arm) and ``homes`` (each site's figure, and by how much it gains or loses).
    """
    headline = experiment.evaluation.headline
    found = {arm: _cells(arm, seeds, folder) for arm in arms}
    finished = {arm: {seed: cell for seed, cell in cells.items() if "error" not in cell} for arm, cells in found.items()}
    rows = {arm: {seed: _rows(experiment, folder / arm.folder / f"seed-{seed}") for seed in cells} for arm, cells in finished.items()}
    told = [_arm(headline, arm, found[arm], finished[arm], rows[arm]) for arm in arms]
    against = [None, *(_against(headline, finished[arms[0]], finished[arm], rows[arms[0]], rows[arm]) for arm in arms[1:])]
    adjusted = holm([one["p"] if one else None for one in against])
    for arm, one, p in zip(told, against, adjusted, strict=True):
        arm["against"] = None if one is None else one | {"p_holm": p}
    for arm, one in zip(arms, told, strict=True):
        one["homes"] = _homes(finished[arms[0]], finished[arm])
    return {"headline": headline, "better": METRICS[headline].better, "seeds": list(seeds), "arms": told}


def _cells(arm: Arm, seeds: Sequence[int], folder: Path) -> dict[int, dict[str, Any]]:
    cells = {}
    for seed in seeds:
        here = folder / arm.folder / f"seed-{seed}"
        if (here / "cell.json").exists():
            cells[seed] = read_json(here / "cell.json")
        elif (here / "failure.json").exists():
            failure = read_json(here / "failure.json")
            cells[seed] = {"code": failure["code"], "error": failure["error"]}
        else:
            cells[seed] = {"code": "E_MISSING", "error": "this cell was never run"}
    return cells


def _rows(experiment: Experiment, cell: Path) -> np.ndarray:
    """The headline metric of a cell and its bootstrap over patients."""
    groups = {name: Group(*answer) for name, answer in read_predictions(cell).items()}
    times = experiment.evaluation.bootstrap
    return resampled(METRICS[experiment.evaluation.headline], groups, experiment.data.classes, bootstrap=times, seed=experiment.seed)


def _cases(cells: Cells) -> int:
    return min(cell["cases"] for cell in cells.values())


def _arm(headline: str, arm: Arm, cells: Cells, finished: Cells, rows: Mapping[int, np.ndarray]) -> dict[str, Any]:
    names = next(iter(finished.values()), {"metrics": {}})["metrics"]
    rounds = sorted({number for cell in finished.values() for number, _ in cell["curve"]})
    curves = [dict(cell["curve"]) for cell in finished.values()]
    return {
        "label": arm.label,
        "strategy": arm.strategy,
        "settings": list(arm.settings),
        "cells": [
            {"seed": seed, **{key: cell[key] for key in ("value", "wall_s", "bytes", "code", "error") if key in cell}} for seed, cell in cells.items()
        ],
        "metrics": {name: t_interval([cell["metrics"][name] for cell in finished.values() if cell["metrics"][name] is not None]) for name in names},
        "patients": summary(np.mean(list(rows.values()), axis=0), _cases(finished), scale=METRICS[headline].scale) if rows else None,
        "curve": [[number, *_spread([curve.get(number) for curve in curves])] for number in rounds],
        "wall_s": t_interval([cell["wall_s"] for cell in finished.values()])["value"],
        "bytes": t_interval([cell["bytes"] for cell in finished.values()])["value"],
        "degraded": sum(cell["degraded"] for cell in finished.values()),
        "rounds": sum(cell["rounds"] for cell in finished.values()),
        "cases": min((cell["cases"] for cell in finished.values()), default=None),
        "finished": len(finished),
    }


def _spread(values: Sequence[float | None]) -> list[float | None]:
    known = [value for value in values if value is not None]
    return [float(np.mean(known)), min(known), max(known)] if known else [None, None, None]


def _against(headline: str, first: Cells, other: Cells, first_rows: Mapping[int, np.ndarray], rows: Mapping[int, np.ndarray]) -> dict[str, Any]:
    both = [seed for seed in first if seed in other and first[seed]["value"] is not None and other[seed]["value"] is not None]
    tested = paired_t([other[seed]["value"] for seed in both], [first[seed]["value"] for seed in both])
    drawn = summary(np.mean([rows[seed] - first_rows[seed] for seed in both], axis=0), _cases(other), scale="difference") if both else None
    higher = METRICS[headline].better == "higher"
    wins = sum((other[seed]["value"] > first[seed]["value"]) == higher and other[seed]["value"] != first[seed]["value"] for seed in both)
    return tested | {"wins": wins, "patients": drawn}


def _homes(first: Cells, other: Cells) -> dict[str, dict[str, Any]]:
    """Each site's own figure over the seeds, its fewest cases, and its paired difference from the first arm."""
    told: dict[str, dict[str, Any]] = {}
    for site in dict.fromkeys(site for cell in other.values() for site in cell["homes"]):
        values = {seed: cell["homes"].get(site) for seed, cell in other.items()}
        known = {seed: value for seed, value in values.items() if value is not None}
        base = {seed: first[seed]["homes"].get(site) for seed in known if seed in first}
        both = [seed for seed, value in base.items() if value is not None]
        told[site] = {
            "value": t_interval(list(known.values()))["value"],
            "gain": paired_t([known[seed] for seed in both], [base[seed] for seed in both]),  # type: ignore[misc]
            "cases": min(cell["home_cases"].get(site, 0) for cell in other.values()),
        }
    return told
