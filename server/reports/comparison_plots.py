"""The pictures of a comparison: every strategy's figure with its intervals, and its learning curve beside the first one's."""

from __future__ import annotations

from typing import Any

from server.reports.wording import shown
from shared_models.drawing import Chart, nice_ticks

NARROW = 26
"""Characters of a label that fit beside a plot."""


def short(label: str) -> str:
    """Return a label that fits beside a plot.

    Examples
    --------
    >>> short("fedyogi eta=0.01 tau=1e-08 lr=0.003")
    'fedyogi eta=0.01 tau=1e-0…'
    """
    return label if len(label) <= NARROW else f"{label[: NARROW - 1]}…"


def forest(arms: list[dict[str, Any]], headline: str, title: str) -> str:
    """Draw the strategies one below the other: mean over seeds, its t-interval, the single seeds, and below it the interval over patients."""
    told = [(arm, arm["metrics"][headline], arm["patients"] or {}) for arm in arms]
    seeds = {arm["label"]: [cell["value"] for cell in arm["cells"] if cell.get("value") is not None] for arm in arms}
    ends = [end for _, over, patients in told for end in (over["value"], over["low"], over["high"], patients.get("low"), patients.get("high"))]
    known = [end for end in (*ends, *(value for values in seeds.values() for value in values)) if end is not None]
    if not known:
        return ""
    ticks = nice_ticks(min(known), max(known), 6)
    step, top = 38, 10
    chart = Chart(1000, top + step * len(told) + 48, (ticks[0], ticks[-1]), (0, 1), left=220, right=190, top=top, bottom=48)
    chart.axis_x(ticks, title)
    base = told[0][1]["value"]
    if base is not None:
        chart.segment("chance", chart.at_x(base), top, chart.at_x(base), chart.height - chart.bottom)
    for place, (arm, over, patients) in enumerate(told):
        y, css = top + step * place + step / 2, "federated" if place == 0 else "hue1"
        chart.label(f"name {css if place == 0 else ''}", 208, y + 4, short(arm["label"]), text_anchor="end")
        if patients.get("low") is not None:
            chart.segment("whisker alone thin", chart.at_x(patients["low"]), y + 8, chart.at_x(patients["high"]), y + 8)
        if over["low"] is not None:
            low, high = max(over["low"], ticks[0]), min(over["high"], ticks[-1])
            chart.segment(f"whisker {css}", chart.at_x(low), y, chart.at_x(high), y)
        for value in seeds[arm["label"]]:
            chart.add("circle", "seed", cx=chart.at_x(value), cy=y, r=2.6)
        if over["value"] is not None:
            chart.add("circle", f"mark {css}", cx=chart.at_x(over["value"]), cy=y, r=6)
        spread = f" ± {shown(over['sd'])}" if over["sd"] is not None else ""
        chart.label(f"value {css if place == 0 else ''}", chart.width - 176, y + 4, f"{shown(over['value'])}{spread}")
    listed = "; ".join(f"{arm['label']} {shown(over['value'])} ({shown(over['low'])} to {shown(over['high'])})" for arm, over, _ in told)
    return chart.svg("plot-forest", f"{title} of each strategy", f"Mean over seeds with 95 % interval: {listed}.")


def curves(arms: list[dict[str, Any]], title: str) -> list[dict[str, str]]:
    """Draw a panel a strategy: the mean over seeds, the range of the seeds as a band, and the first strategy's mean dashed; ``{label, svg}``."""
    known = [value for arm in arms for _, *values in arm["curve"] for value in values if value is not None]
    rounds = [number for arm in arms for number, *_ in arm["curve"]]
    if not known:
        return []
    ticks, last = nice_ticks(min(known), max(known), 4), max(max(rounds), min(rounds) + 1)
    drawn = []
    for place, arm in enumerate(arms):
        chart = Chart(310, 210, (min(rounds), last), (ticks[0], ticks[-1]), left=48, right=8, top=8)
        chart.axis_x([tick for tick in nice_ticks(min(rounds), last, 4) if tick == int(tick) and min(rounds) <= tick <= last], "Round")
        chart.axis_y(ticks, title if len(title) < 26 else "")
        points = [point for point in arm["curve"] if point[1] is not None]
        css = "federated" if place == 0 else "hue1"
        if points:
            edge = [(number, high) for number, _, _, high in points] + [(number, low) for number, _, low, _ in reversed(points)]
            chart.add("polygon", f"band {css}", points=" ".join(f"{chart.at_x(x):g},{chart.at_y(y):g}" for x, y in edge))
        if place:
            chart.line("chance", [point[0] for point in arms[0]["curve"]], [point[1] for point in arms[0]["curve"]], "4 3")
        chart.line(css, [point[0] for point in arm["curve"]], [point[1] for point in arm["curve"]])
        said = f"from {shown(points[0][1])} to {shown(points[-1][1])}" if points else "undefined"
        drawn.append(
            {"label": arm["label"], "svg": chart.svg(f"plot-curve-{place}", f"{title} by round: {arm['label']}", f"Mean over seeds {said}.")}
        )
    return drawn
