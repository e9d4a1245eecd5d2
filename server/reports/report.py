"""One page a run: ``write_report`` reads a run folder and writes ``report.html`` beside its numbers.

The page asks nothing of the network: styles, charts and pictures are inside it. It prints, follows light and dark, and can be read by ear.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jinja2

from server.reports import plots, prognosis, summary, wording
from server.reports.glossary import GLOSSARY
from server.reports.record import Arm, Cell, Record, as_cells, read_record
from shared_models.core.files import write_atomic
from shared_models.metrics import METRICS
from shared_models.metrics.findings import FINDING_METRICS
from shared_models.metrics.prognosis import prognosis_metrics
from shared_models.metrics.segmentation import SEGMENTATION_METRICS

ALL_METRICS = FINDING_METRICS | SEGMENTATION_METRICS | METRICS
"""Of patients, of pixels and of several findings; where names are the same, so are the ways to read them."""

FEWEST_CASES = 5
"""Results on fewer real patients than this are not shown for a single hospital: a small cell can point at a person."""

KNOWN = (
    *("versions", "command", "toml", "experiment_toml", "experiment", "digest", "sites", "durations", "machine"),
    *("strategy", "model", "parameters", "start", "unseen"),
)
"""Keys of ``run.json`` that have a place of their own; all others are listed as they are."""

LIMITS = {
    "phantom": "Trained and evaluated on synthetic phantoms: says nothing about patients",
    "unknown": "What the data were is not recorded: do not read these numbers as clinical results",
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Parameters
    ----------
    run : Path
        A run folder; see `record.read_record` for the files it may hold. Only ``metrics.json`` is required.

    Raises
    ------
    BadInput
        ``metrics.json`` is missing or damaged.
    """
    path = Path(run) / "report.html"
    write_atomic(path, render(read_record(Path(run))).encode())
    return path


def render(record: Record) -> str:
    """Return the page of a run as HTML."""
    headline = summary.headline_metric(record)
    horizons = [float(horizon) for horizon in record.metrics.get("horizons") or ()]
    known = ALL_METRICS | (prognosis_metrics(horizons) if horizons else {})
    sites = list(dict.fromkeys(site for one in record.rounds for site in one["sites"]))
    main_arms = [arm for arm in record.arms if not arm.key.startswith("local:")]
    metric_names = _names(arm.cells for arm in record.arms)
    differences = {
        {"local_only": "each alone, mean"}.get(other, other.replace("_", " ")): as_cells(found)
        for other, found in (record.metrics.get("differences") or {}).items()
    }
    return _template().render(
        record=record,
        run=record.run,
        limit=LIMITS.get(record.kind) if record.kind != "real" else None,
        sentences=summary.sentences(record),
        headline=headline,
        headline_title=wording.metric_title(headline) if headline else "",
        tiles=_tiles(record, headline),
        comparison=plots.comparison(record.arms, headline, wording.metric_title(headline)) if headline else "",
        main_arms=main_arms,
        alone=[arm for arm in record.arms if arm.key.startswith("local:")],
        metric_names=metric_names,
        sizes={name: _sizes(main_arms, name) for name in metric_names},
        differences=differences,
        difference_names=_names(differences.values()),
        class_names=[name for name in _class_metrics(record) if any(name in arm.cells for arm in record.arms)],
        site_tables=_site_tables(record, record.sites) + _site_tables(record, record.personal, personal=True),
        site_metrics=_names(record.sites.values())[:7],
        roc=plots.roc_panels(record),
        reliability=plots.reliability_panels(record),
        confusion=_confusion(record),
        curves=plots.learning_curves(record, headline or ""),
        legend=plots.legend(sites),
        round_notes=summary.round_notes(record),
        facts=_facts(record),
        phases=_phases(record),
        codes=summary.refusal_words(),
        toml=next((record.run[key] for key in ("toml", "experiment_toml", "experiment") if isinstance(record.run.get(key), str)), ""),
        glossary=GLOSSARY + [(spec.title, spec.means) for name, spec in known.items() if name in metric_names],
        fewest=FEWEST_CASES,
        METRICS=known,
        prognosis=prognosis.panels(record),
        extents=record.metrics.get("extents") or {},
    )


@functools.cache
def _template() -> jinja2.Template:
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    environment.filters.update(
        shown=wording.shown, duration=wording.duration_text, size=wording.size_text, metric=wording.metric_title, held_out=summary.is_held_out
    )
    return environment.get_template("report.html.j2")


def _names(tables: Any) -> list[str]:
    """Return the metrics of the tables in the order of ``METRICS``, then others; classes apart; mean recall is balanced accuracy again."""
    found = dict.fromkeys(name for table in tables for name in table)
    ordered = [name for name in METRICS if name in found] + [name for name in found if name not in METRICS and not name.startswith("auroc_")]
    return [name for name in ordered if not (name == "mean_recall" and "balanced_accuracy" in found)]


def _sizes(arms: list[Arm], name: str) -> str:
    """Return the numbers of cases behind a metric: one where all arms agree."""
    return ", ".join(dict.fromkeys(str(arm.cells[name]["n"]) for arm in arms if name in arm.cells and arm.cells[name]["n"] is not None))


def _class_metrics(record: Record) -> list[str]:
    found = dict.fromkeys(name for arm in record.arms for name in arm.cells if name.startswith("auroc_") and name not in METRICS)
    ordered = [f"auroc_{name}" for name in record.classes if f"auroc_{name}" in found]
    return ordered + [name for name in found if name not in ordered]


def _tiles(record: Record, headline: str | None) -> list[tuple[Arm, Cell]]:
    arms = [record.arm(key) for key in ("federated", "mean", "pooled")]
    return [(arm, arm.cells[headline]) for arm in arms if arm and headline in arm.cells] if headline else []


def _kind_of(record: Record, site: str) -> str:
    found = next((one for one in record.run.get("sites") or [] if one.get("name") == site), {})
    return str(found.get("kind") or record.kind)


def _site_tables(record: Record, sites: dict[str, dict[str, Cell]], *, personal: bool = False) -> list[dict[str, Any]]:
    """Return one table a kind of data: figures of phantoms and of patients never stand in one table."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for site, cells in sites.items():
        kind = _kind_of(record, site)
        n = next((cell["n"] for cell in cells.values() if cell["n"] is not None), None)
        hidden = kind != "phantom" and n is not None and n < FEWEST_CASES
        tables.setdefault(kind, []).append({"name": site, "cells": cells, "n": n, "hidden": hidden})
    return [{"kind": kind, "rows": rows, "personal": personal} for kind, rows in tables.items()]


def _confusion(record: Record) -> dict[str, Any] | None:
    for key in ("federated", *record.curves):
        found = record.curves.get(key) or {}
        rows = found.get("confusion")
        if rows and sum(map(sum, rows)):
            arm = record.arm(key)
            names = found.get("classes") or record.classes
            shares = [[count / sum(row) if sum(row) else 0.0 for count in row] for row in rows]
            return {"title": arm.title if arm else key, "names": names, "rows": list(zip(names, rows, shares, strict=False))}
    return None


def _facts(record: Record) -> list[tuple[str, str]]:
    run = record.run
    facts = [("Experiment", record.name), ("Model", run.get("model")), ("Strategy", run.get("strategy"))]
    facts.append(("Parameters", f"{run['parameters']:,}" if isinstance(run.get("parameters"), int) else run.get("parameters")))
    facts += [
        ("Rounds", len(record.rounds) or record.metrics.get("rounds") or None),
        ("Seed", record.metrics.get("seed")),
        ("Started", run.get("start")),
    ]
    machine = run.get("machine")
    facts.append(("Machine", ", ".join(f"{value} {key}" for key, value in machine.items()) if isinstance(machine, dict) else machine))
    facts += [(key.replace("_", " ").capitalize(), value) for key, value in run.items() if key not in KNOWN and isinstance(value, str | int | float)]
    return [(name, str(value)) for name, value in facts if value not in (None, "", {})]


def _phases(record: Record) -> list[tuple[str, float, float]]:
    """Return phase, seconds and share of all, as recorded; the run's own durations where ``metrics.json`` has none."""
    found = record.metrics.get("wall_s") or record.run.get("durations") or {}
    known = {name: float(value) for name, value in found.items() if isinstance(value, int | float)} if isinstance(found, dict) else {}
    total = sum(known.values())
    return [(name.replace("_", " ").capitalize(), value, value / total if total else 0.0) for name, value in known.items()]
