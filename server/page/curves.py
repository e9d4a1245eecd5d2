"""The curves of a run as it goes: one line a site and one for all, each with the same numbers as a table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.page.sites import MISSED, TOOK, SiteStanding
from server.reports.wording import metric_title, ranges_text, shown
from server.runs.stopping import federated_metric
from shared_models.drawing import DASHES, Chart, nice_ticks

TOGETHER = "all sites"
FIRST = ("train_loss", "val_loss", "val_auroc_macro", "val_accuracy")
MOST_CURVES = 6
MOST_DOTS = 600
"""Dots in one picture; beyond that the lines stand alone."""


@dataclass(frozen=True)
class Curve:
    """One metric over the rounds: the picture, and the rows of its table."""

    key: str
    title: str
    svg: str
    sites: list[str]
    rows: list[tuple[int, list[str]]]


def hue_of(place: int) -> tuple[str, str]:
    """Return CSS class and dashes of the line of a site; 36 sites look different, by more than colour.

    Examples
    --------
    >>> len({hue_of(place) for place in range(36)})
    36
    """
    return f"hue{place % 6}", DASHES[(place + place // 6) % len(DASHES)]


def curves_of(lines: Sequence[dict[str, Any]], roster: Sequence[str]) -> list[Curve]:
    """Return a curve for each metric that sites have told; of a secure sum only the line of all sites is known."""
    tables = [_told(line) for line in lines]
    names = list(dict.fromkeys(name for table in tables for found in table.values() for name in found))
    names = [name for name in names if name != "val_cases" and not name.startswith("drawn_")]
    ordered = [name for name in FIRST if name in names] + [name for name in names if name not in FIRST]
    sites = [name for name in sorted(roster) if any(name in table for table in tables)]
    xs = [float(line["round"]) for line in lines]
    return [_curve(name, place, xs, tables, sites) for place, name in enumerate(ordered[:MOST_CURVES])]


def presence(sites: Sequence[SiteStanding], rounds: Sequence[int]) -> str:
    """Draw who took part in which round: a full square, an empty one where a site was missing."""
    if not rounds:
        return ""
    step, left, top = 20, 150, 8
    width = 760
    chart = Chart(width, top + step * len(sites) + 40, (rounds[0] - 0.5, rounds[-1] + 0.5), (0, 1), left=left, right=10, top=top, bottom=40)
    chart.axis_x([tick for tick in nice_ticks(rounds[0], rounds[-1], 10) if tick == int(tick) and rounds[0] <= tick <= rounds[-1]], "Round")
    side = max(1.0, min(13.0, (width - left - 10) / len(rounds) - 1))
    for place, site in enumerate(sites):
        y = top + step * place + step / 2
        chart.label("name", left - 8, y + 4, site.name if len(site.name) <= 20 else site.name[:19] + "…", text_anchor="end")
        for what in (TOOK, MISSED):  # one element a row and kind, however many rounds there are
            squares = [
                f"M{chart.at_x(number) - side / 2:.1f} {y - 6.5:g}h{side:.1f}v13h-{side:.1f}z"
                for number, was in zip(rounds, site.course, strict=True)
                if was == what
            ]
            if squares:
                chart.add("path", what, d="".join(squares))
    told = "; ".join(f"{site.name}: {site.took} of {len(rounds)} rounds, missed {site.missed_text}" for site in sites)
    return chart.svg("plot-presence", "Who took part in which round", f"{told}.")


def _told(line: dict[str, Any]) -> dict[str, dict[str, float]]:
    if line.get("total"):
        return {TOGETHER: _numbers(line["total"].get("metrics"))}
    return {site: _numbers(record.get("metrics")) for site, record in line["sites"].items() if not record.get("refused")}


def _numbers(metrics: dict[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, int | float)}


def _curve(metric: str, number: int, xs: list[float], tables: list[dict[str, dict[str, float]]], sites: list[str]) -> Curve:
    values = {site: [_finite(table.get(site, {}).get(metric)) for table in tables] for site in sites}
    mean = [_finite(federated_metric(metric, table)) for table in tables]
    known = [value for line in (*values.values(), mean) for value in line if value is not None]
    title = _title(metric)
    low, high = min(known, default=0.0), max(known, default=1.0)
    # after one round, or where nothing but rounding changes, a curve still needs a scale
    room = 0.0 if high - low > 1e-6 * max(1.0, abs(high)) else max(0.1 * abs(low), 0.1)
    ticks = nice_ticks(low - room, high + room)
    last = max(xs[-1], xs[0] + 1)
    chart = Chart(520, 290, (xs[0], last), (ticks[0], ticks[-1]), left=54)
    chart.axis_x([tick for tick in nice_ticks(xs[0], last, 6) if tick == int(tick) and xs[0] <= tick <= last], "Round")
    chart.axis_y(ticks, title)
    dots = len(xs) * (len(sites) + 1) <= MOST_DOTS
    for place, site in enumerate(sites):
        css, dashes = hue_of(place)
        _draw(chart, css, xs, values[site], dashes, size=2.2 if dots else 0, name=site)
    _draw(chart, "federated", xs, mean, "", size=3.2 if dots else 0, name=TOGETHER)
    ends = [value for value in mean if value is not None] or [None]
    key = f"{re.sub(r'[^A-Za-z0-9_-]', '-', metric)}-{number}"  # a site may call a metric what it likes
    told = f"{TOGETHER}: from {_cell(ends[0])} to {_cell(ends[-1])} in rounds {ranges_text(map(int, xs))}."
    svg = chart.svg(f"plot-{key}", f"{title} by round", told)
    rows = [
        (int(x), [_cell(mean[place]), *(_cell(values[site][place]) for site in sites)])
        for place, x in reversed(list(enumerate(xs)))  # the newest first: a reader need not scroll to it
    ]
    return Curve(key, title, svg, sites, rows)


def _draw(chart: Chart, css: str, xs: list[float], ys: list[float | None], dashes: str, *, size: float, name: str) -> None:
    chart.line(css, xs, ys, dashes)
    around = [None, *ys, None]
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if y is not None and (size or (around[place] is None and around[place + 2] is None)):  # a lone point has no line
            chart.dot(css, x, y, size or 2.0, f"{name}, round {x:g}: {_cell(y)}")


def _title(metric: str) -> str:
    kind, _, rest = metric.partition("_")
    if kind == "val" and rest:
        return f"{metric_title(rest)}, validation"
    return {"train_loss": "Training loss", "received_loss": "Loss of the received model"}.get(metric, metric_title(metric))


def _cell(value: float | None) -> str:
    return "–" if value is None else shown(value) if abs(value) < 1e6 else f"{value:.3g}"


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
