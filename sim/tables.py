"""`fedild list`: every table with its entries, knobs and sources, read from the tables themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from shared_models.core.choices import knobs_of, look_up


def models() -> Mapping[str, Any]:
    """Return MODELS."""
    from shared_models.catalogue import MODELS

    return MODELS


def strategies() -> Mapping[str, Any]:
    """Return STRATEGIES."""
    from server.strategies import STRATEGIES

    return STRATEGIES


def statistics() -> Mapping[str, Any]:
    """Return STATISTICS."""
    from shared_models.statistics import STATISTICS

    return STATISTICS


def steps() -> Mapping[str, Any]:
    """Return STEPS."""
    from client.preprocessing import STEPS

    return STEPS


def segmenters() -> Mapping[str, Any]:
    """Return SEGMENTERS."""
    from client.segmentation import SEGMENTERS

    return SEGMENTERS


def segmentation_networks() -> Mapping[str, Any]:
    """Return SEGMENTATION_NETWORKS."""
    from shared_models.networks.segmentation import SEGMENTATION_NETWORKS

    return SEGMENTATION_NETWORKS


def features() -> Mapping[str, Any]:
    """Return FEATURES."""
    from client.features import FEATURES

    return FEATURES


def metrics() -> Mapping[str, Any]:
    """Return METRICS, of patients, of pixels and of several findings at once."""
    from shared_models.metrics import METRICS
    from shared_models.metrics.findings import FINDING_METRICS
    from shared_models.metrics.segmentation import SEGMENTATION_METRICS

    return FINDING_METRICS | SEGMENTATION_METRICS | METRICS


def augmentations() -> Mapping[str, Any]:
    """Return AUGMENTATIONS."""
    from client.training.augment import AUGMENTATIONS

    return AUGMENTATIONS


def compressions() -> Mapping[str, Any]:
    """Return COMPRESSIONS."""
    from shared_models.compression import COMPRESSIONS

    return COMPRESSIONS


def schedules() -> Mapping[str, Any]:
    """Return SCHEDULES."""
    from shared_models.schedules import SCHEDULES

    return SCHEDULES


def calibrations() -> Mapping[str, Any]:
    """Return CALIBRATIONS."""
    from shared_models.calibration import CALIBRATIONS

    return CALIBRATIONS


def ensembles() -> Mapping[str, Any]:
    """Return ENSEMBLES."""
    from shared_models.ensembles import ENSEMBLES

    return ENSEMBLES


def explanations() -> Mapping[str, Any]:
    """Return EXPLANATIONS."""
    from shared_models.explanations import EXPLANATIONS

    return EXPLANATIONS


def experiments() -> Mapping[str, Any]:
    """Return the shipped experiments, loaded."""
    from sim.experiments import find, shipped

    return {name: find(name, []) for name in shipped()}


TABLES: dict[str, Callable[[], Mapping[str, Any]]] = {
    "models": models,
    "strategies": strategies,
    "statistics": statistics,
    "steps": steps,
    "segmenters": segmenters,
    "segmentation_networks": segmentation_networks,
    "features": features,
    "metrics": metrics,
    "augmentations": augmentations,
    "compressions": compressions,
    "schedules": schedules,
    "calibrations": calibrations,
    "ensembles": ensembles,
    "explanations": explanations,
    "experiments": experiments,
}


def function_of(entry: Any) -> Callable[..., Any] | None:
    """Return the function whose keyword-only arguments are the entry's knobs."""
    for name in ("build", "function"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry if callable(entry) else None


def rows(table: str) -> list[tuple[str, str, str, str]]:
    """Return (name, first line of its documentation, knobs with defaults, source) of every entry."""
    out = []
    for name, entry in look_up(TABLES, table, kind="table")().items():
        function = function_of(entry)
        text = getattr(entry, "title", "") or (inspect.getdoc(function) or "").split("\n")[0]
        source = getattr(entry, "source", "")
        knobs = ""
        if function is not None:
            knobs = ", ".join(f"{k}{'' if p.default is p.empty else f'={p.default!r}'}" for k, p in knobs_of(function).items())
        out.append((name, text, knobs, source))
    return out


def show(table: str) -> None:
    """Print a table to standard output."""
    from rich.console import Console
    from rich.table import Table

    grid = Table("name", "what", "knobs", "source", title=table, show_lines=False)
    for row in rows(table):
        grid.add_row(*row)
    Console().print(grid)
