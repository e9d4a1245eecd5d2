"""What the hospitals of a simulation found out about a generator: beside the run, and in the card of its bundle, which holds the generator.

Only a simulation may read these reports: its patients are phantoms. A hospital keeps its own, and its gate lets five rounded numbers of it
out where enough patients stand behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from server.runs.drawn import PREFIX
from shared_models.core.files import read_json
from shared_models.experiment import Experiment

TOLD = ("mean_error_hu", "sd_error", "pair_ssim", "memory_ratio", "frechet")
"""Numbers of a report that stand in a card."""


def reports_of(experiment: Experiment, training: Sequence[Path]) -> dict[str, Any]:
    """Return the report of each hospital (by its TOML) about what the generator of `experiment` draws; empty for a model that draws nothing."""
    paths = {site.parent.name: site.parent / "workspace" / "generation" / f"{experiment.digest[:16]}.json" for site in training}
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


def level_errors(reports: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return how far the drawn slices of a class are off the real ones of all hospitals together: mean in HU, SD as a share; the worst class.

    One generator draws for all hospitals and cannot know whose scanner it draws for: a hospital's own report compares with its own slices alone.
    Hospitals count alike; the SD holds what lies between them. None without a class that all of them have.

    Examples
    --------
    >>> sites = [{"mean_hu": -850.0, "real_mean_hu": real, "sd_hu": 150.0, "real_sd_hu": 150.0} for real in (-900.0, -820.0)]
    >>> mean_hu, sd = level_errors({str(number): {"classes": {"UIP": site}} for number, site in enumerate(sites)})
    >>> mean_hu, round(sd, 3)
    (10.0, 0.034)
    """
    shared = set.intersection(*(set(report["classes"]) for report in reports.values())) if reports else set()
    means, spreads = [], []
    for name in sorted(shared):
        found = [report["classes"][name] for report in reports.values()]
        (drawn, drawn_sd), (real, real_sd) = (
            _together([one[f"{which}mean_hu"] for one in found], [one[f"{which}sd_hu"] for one in found]) for which in ("", "real_")
        )
        means.append(abs(drawn - real))
        spreads.append(abs(drawn_sd / max(real_sd, 1e-3) - 1))
    return max(means, default=None), max(spreads, default=None)


def _together(means: Sequence[float], spreads: Sequence[float]) -> tuple[float, float]:
    """Return mean and SD of equal parts taken together, of their means and SDs."""
    whole = fmean(means)
    return whole, sqrt(fmean(spread**2 + (mean - whole) ** 2 for mean, spread in zip(means, spreads, strict=True)))


def told_of(reports: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers of reports as a gate would round them.

    Examples
    --------
    >>> told_of({"alpha": {"memory_ratio": 1.23456, "sd_error": None, "samples": 64}})
    {'alpha': {'drawn_memory_ratio': 1.2346}}
    """
    return {site: {f"{PREFIX}{name}": round(found[name], 4) for name in TOLD if found.get(name) is not None} for site, found in reports.items()}
