"""What the hospitals of a simulation found out about a generator: beside the run, and in the card of its bundle, which holds the generator.

Only a simulation may read these reports: its patients are phantoms. A hospital keeps its own, and its gate lets five rounded numbers of it
out where enough patients stand behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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


def told_of(reports: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers of reports as a gate would round them.

    Examples
    --------
    >>> told_of({"alpha": {"memory_ratio": 1.23456, "sd_error": None, "samples": 64}})
    {'alpha': {'drawn_memory_ratio': 1.2346}}
    """
    return {site: {f"{PREFIX}{name}": round(found[name], 4) for name in TOLD if found.get(name) is not None} for site, found in reports.items()}
