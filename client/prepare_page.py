"""The page of a preparation: what became of every item, with a small picture of each accepted study; everything inside it, nothing fetched."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jinja2

from client.dicom.limits import LIMITS
from client.outcome import PrepareReport
from shared_models.bundle import NOTICE

MAX_PICTURES = 300
"""Studies shown with a picture: a page of more no longer opens."""


def render(report: PrepareReport) -> str:
    """Return the page as HTML; it holds keyed pseudonyms only."""
    return _template().render(
        notice=NOTICE,
        report=report,
        outcomes=report.outcomes(),
        limits=LIMITS,
        pictures=_pictures(report),
        counts=_finding_counts(report),
        followed=report.follow_up(),
    )


def _pictures(report: PrepareReport) -> dict[str, str]:
    shown = [line["item"] for line in report.accepted[:MAX_PICTURES]]
    return {item: report.pictures.get(item, "") for item in shown}


def _finding_counts(report: PrepareReport) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for line in report.accepted:
        for finding in line["findings"]:
            counts[finding["code"]] = counts.get(finding["code"], 0) + 1
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _number(value: Any, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}".replace("-", "−")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=_number)
    return environment.get_template("prepare.html.j2")
