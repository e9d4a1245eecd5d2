"""The page of a federation that learnt survival: hazard ratios with intervals beside the pooled fit, and how well they order patients."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import jinja2

from shared_models.core.files import read_json, write_atomic
from shared_models.metrics.survival import SURVIVAL_METRICS

Z95 = 1.959963984540054


def write_survival_report(run: Path) -> Path:
    """Write ``report.html`` from ``metrics.json`` of a run folder and return its path."""
    path = run / "report.html"
    write_atomic(path, render(read_json(run / "metrics.json")).encode())
    return path


def render(metrics: dict[str, Any]) -> str:
    """Return the page as HTML."""
    rows = [
        {
            "name": name,
            "steady": metrics["federated"]["proportionality"]["p"][number],
            **{arm: ratio_of(metrics[arm]["columns"], number) for arm in ("federated", "pooled")},
        }
        for number, name in enumerate(metrics["columns"])
    ]
    return _template().render(metrics=metrics, rows=rows, METRICS=SURVIVAL_METRICS)


def ratio_of(columns: dict[str, list[float | None]], number: int) -> dict[str, float] | None:
    """Return the hazard ratio of a column with its 95 % interval and two-sided p, None where the data say nothing about it."""
    value, error, z = (columns[name][number] for name in ("coefficient", "standard_error", "z"))
    if value is None or error is None or z is None:
        return None
    low, high = math.exp(value - Z95 * error), math.exp(value + Z95 * error)
    return {"coefficient": value, "error": error, "ratio": math.exp(value), "low": low, "high": high, "p": math.erfc(abs(z) / math.sqrt(2))}


@functools.cache
def _template() -> jinja2.Template:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    return environment.get_template("survival.html.j2")
