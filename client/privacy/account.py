"""The ledger shown to people: rows by cohort, and the epsilon spent over time as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from client.privacy.chain import EVERYBODY
from client.privacy.ledger import Ledger
from client.site import Site
from shared_models.core.errors import BadInput
from shared_models.drawing import DASHES, Chart, nice_ticks

TITLE = "Epsilon spent at this site"


def account(folder: Path) -> dict[str, Any]:
    """Return what the patients of a site folder have spent: the worst-off, the limit, and a row a cohort; infinite is None.

    Raises
    ------
    Refused
        E_LEDGER.
    """
    limits, ledger = Site.load(folder / "site.toml").policy.privacy, Ledger(folder)
    rows = [{name: _finite(value) for name, value in row.items()} for row in ledger.cohorts(delta=limits.delta)]
    entries = ledger.entries()
    return {
        "entries": len(entries),
        "losses": sum(entry.kind == "loss" for entry in entries),
        "epsilon": _finite(ledger.spent(delta=limits.delta)),
        "delta": limits.delta,
        "limit": limits.epsilon_limit,
        "cohorts": rows,
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return an account as lines for a terminal."""
    limit = "no limit" if found["limit"] is None else f"limit {found['limit']:g}"
    losses = f", {found['losses']} accepted losses" if found["losses"] else ""
    lines = [
        f"{found['entries']} entries, all signed and in place{losses}",
        f"worst-off patient: epsilon {_text(found['epsilon'])} at delta {found['delta']:g} by Renyi accounting; {limit}; unit: see each cohort",
    ]
    if found["cohorts"]:
        lines.append(f"{'cohort':14s}{'patients':>9s}  {'unit':8s}{'entries':>8s}{'runs':>6s}{'steps':>8s}{'rdp':>9s}{'prv':>9s}  last")
    for row in found["cohorts"]:
        numbers = f"{row['entries']:8d}{row['runs']:6d}{row['steps']:8d}{_text(row['rdp']):>9s}{_text(row['prv']):>9s}"
        lines.append(f"{row['cohort'][:12]:14s}{row['patients']:9d}  {row['unit']:8s}{numbers}  {row['last']}")
    return lines


def picture(folder: Path) -> str:
    """Return an SVG file: the epsilon of each cohort's worst-off patient after each entry, beside the limit.

    Raises
    ------
    BadInput
        Nothing was spent yet.
    """
    chart, told = course_of(folder)
    return chart.picture(TITLE, told)


def course_of(folder: Path) -> tuple[Chart, str]:
    """Return the drawing of `picture` and what it says in words.

    Raises
    ------
    BadInput
        Nothing was spent yet.
    """
    limits = Site.load(folder / "site.toml").policy.privacy
    course = [(entry, value) for entry, value in Ledger(folder).course(delta=limits.delta) if math.isfinite(value)]
    if not course:
        raise BadInput("a picture needs something spent", value=0)
    most = max([value for _, value in course] + ([limits.epsilon_limit] if limits.epsilon_limit else []))
    ticks, last = nice_ticks(0, most), max(2, course[-1][0].counter)
    chart = Chart(720, 340, (1, last), (0, ticks[-1]), left=56, right=120)
    chart.axis_x([tick for tick in nice_ticks(1, last, 8) if tick == int(tick) and 1 <= tick <= last], "Entry of the ledger")
    chart.axis_y(ticks, f"Epsilon at delta {limits.delta:g}")
    cohorts = list(dict.fromkeys(entry.cohort for entry, _ in course))
    for place, cohort in enumerate(cohorts):
        points = [(entry, value) for entry, value in course if entry.cohort == cohort]
        css, name = f"hue{place % 6}", "accepted loss" if cohort == EVERYBODY else cohort[:8]
        chart.line(css, [entry.counter for entry, _ in points], [value for _, value in points], DASHES[place % len(DASHES)])
        for entry, value in points:
            chart.dot(css, entry.counter, value, 2.6, f"entry {entry.counter}, run {entry.run}, round {entry.round}: epsilon {value:.3f}")
        chart.label(css, chart.width - chart.right + 8, chart.at_y(points[-1][1]) + 4, name)
    if limits.epsilon_limit:
        y = chart.at_y(limits.epsilon_limit)
        chart.segment("chance", chart.left, y, chart.width - chart.right, y)
        chart.label("tick", chart.left + 6, y - 5, f"limit {limits.epsilon_limit:g}")
    told = "; ".join(f"after entry {entry.counter}: {value:.3f}" for entry, value in course[-3:])
    return chart, f"Of the worst-off patient of each cohort. {told}."


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
