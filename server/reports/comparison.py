"""One page a comparison: ``write_comparison`` reads ``compare.json`` of a folder and writes ``compare.html`` beside it.

As a run's report it asks nothing of the network, prints, follows light and dark, and can be read by ear.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jinja2

from server.reports import comparison_plots as plots
from server.reports import wording
from server.reports.comparison_words import sentences, test_words
from shared_models.core.errors import BadInput
from shared_models.core.files import write_atomic
from shared_models.metrics import METRICS

FEWEST_CASES = 5
"""Figures of a single site on fewer real patients than this are not shown."""

GLOSSARY = (
    ("Strategy", "The rule by which sites train and the server combines their answers."),
    ("Seed", "Where all chance of a run begins. Two strategies with one seed share the start, the order of patients and the test patients."),
    (
        "Interval over seeds",
        "Student's 95 % interval of the mean over seeds: how much training's own chance moves the figure. It says nothing of patients.",
    ),
    ("Interval over patients", "Patients were drawn anew many times (paired bootstrap): how much the choice of test patients moves the figure."),
    (
        "Paired t-test",
        "Whether the differences of two strategies, seed by seed, may be chance. Holm's method makes p larger for the number of strategies.",
    ),
    ("At home", "Each hospital's own validation or test patients, judged with what a personal strategy keeps at the hospital."),
)


def write_comparison(folder: Path) -> Path:
    """Write ``compare.html`` into the folder of a comparison and return its path.

    Raises
    ------
    BadInput
        ``compare.json`` is missing or damaged.
    """
    try:
        found = json.loads((Path(folder) / "compare.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise BadInput(
            "a comparison's page needs its compare.json", value=Path(folder).name, remedy="run `fedild compare` into this folder"
        ) from None
    path = Path(folder) / "compare.html"
    write_atomic(path, render(found).encode(), durable=False)
    return path


def render(found: dict[str, Any]) -> str:
    """Return the page of a comparison as HTML."""
    arms = found["arms"]
    done = [arm for arm in arms if arm["finished"]]
    title = wording.metric_title(found["headline"])
    failures = [(arm["label"], cell) for arm in arms for cell in arm["cells"] if "error" in cell]
    return _template().render(
        found=found,
        arms=arms,
        done=done,
        failures=failures,
        title=title,
        sentences=sentences(found),
        test_words=test_words(found),
        forest=plots.forest(done, found["headline"], title) if done else "",
        curves=plots.curves(done, title) if done else [],
        metric_names=list(done[0]["metrics"]) if done else [],
        sites=_sites(found, done),
        longest_s=max((arm["wall_s"] for arm in done), default=0) or 1,
        most_bytes=max((arm["bytes"] for arm in done), default=0) or 1,
        glossary=GLOSSARY,
        METRICS=METRICS,
    )


@functools.cache
def _template() -> jinja2.Template:
    folder = Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["css"] = (folder / "report.css").read_text(encoding="utf-8")
    environment.filters.update(
        shown=wording.shown, duration=wording.duration_text, size=wording.size_text, metric=wording.metric_title, p=p_text, signed=signed_text
    )
    return environment.get_template("comparison.html.j2")


def p_text(p: float | None) -> str:
    """Return a p-value for readers.

    Examples
    --------
    >>> p_text(0.0004), p_text(0.0321), p_text(None)
    ('< 0.001', '0.032', '–')
    """
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed_text(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign.

    Examples
    --------
    >>> signed_text(0.0214), signed_text(-0.5), signed_text(0.0)
    ('+0.021', '−0.500', '0.000')
    """
    text = wording.shown(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text.replace("−", "-")) > 0 else text


def _sites(found: dict[str, Any], done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each site its figure under the first strategy, and what each arm adds, with a shade from -1 (worst) to 1."""
    first = found["arms"][0]
    names = list(dict.fromkeys(name for arm in done for name in arm["homes"]))
    if not first["finished"] or not names:
        return []
    sign = 1 if found["better"] == "higher" else -1
    gains = [abs(home["gain"]["value"]) for arm in done for home in arm["homes"].values() if home["gain"]["value"] is not None]
    largest = max(gains, default=0) or 1
    rows = []
    for name in names:
        base = first["homes"].get(name, {})
        hidden = found["data"]["kind"] == "real" and base.get("cases", 0) < FEWEST_CASES
        cells = []
        for arm in done:
            gain = arm["homes"].get(name, {}).get("gain", {})
            value = gain.get("value")
            cells.append({"gain": gain, "shade": 0.0 if value is None else sign * value / largest})
        rows.append({"name": name, "cases": base.get("cases"), "value": base.get("value"), "hidden": hidden, "cells": cells})
    return rows
