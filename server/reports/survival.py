"""The page of a federation that learnt survival: hazard ratios with intervals beside the pooled fit, and how well they order patients."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import jinja2

from server.reports.hazard_plot import hazard_plot
from server.reports.life_curves import life_curves
from shared_models.core.files import read_json, write_atomic
from shared_models.metrics.survival import SURVIVAL_METRICS

Z95 = 1.959963984540054
FEWEST = 5
"""Events or losses of one hospital that a page tells of."""


def write_survival_report(run: Path) -> Path:
    """Write ``report.html`` from ``metrics.json`` of a run folder and return its path."""
    path = run / "report.html"
    write_atomic(path, render(read_json(run / "metrics.json")).encode())
    return path


def render(metrics: dict[str, Any]) -> str:
    """Return the page as HTML."""
    ratios = [number for number, _ in enumerate(metrics["columns"]) if "columns" in metrics["federated"]]
    rows = [
        {
            "name": metrics["columns"][number],
            "scale": metrics["federated"]["columns"]["scale"][number],
            "steady": metrics["federated"]["proportionality"]["p"][number],
            "profile": _profile(metrics["federated"]["profile"], number),
            **{arm: ratio_of(metrics[arm]["columns"], number) for arm in ("federated", "pooled")},
        }
        for number in ratios
    ]
    life = life_curves(metrics.get("life_table"))
    return _template().render(
        metrics=metrics,
        rows=rows,
        plot=hazard_plot(rows),
        life=life,
        cohorts=_cohorts(metrics.get("cohorts") or {}),
        METRICS=SURVIVAL_METRICS,
        fewest=FEWEST,
    )


def _profile(found: dict[str, list[float | None]], number: int) -> dict[str, float | None] | None:
    """Return the profile-likelihood interval of a hazard ratio, None where neither end was found."""
    ends = {end: found[end][number] for end in ("low", "high")}
    if all(value is None for value in ends.values()):
        return None
    return {end: None if value is None else math.exp(value) for end, value in ends.items()}


def _cohorts(cohorts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of the hospitals; `few` where events or losses are fewer than a page tells of one hospital."""
    return [{"site": site, **line, "few": min([*line["events"], line["lost"]]) < FEWEST} for site, line in cohorts.items()]


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
