"""The forest plot of a Cox model: hazard ratios of one standard deviation with Wald's interval, the profile likelihood's, and the pooled fit."""

from __future__ import annotations

import math
from typing import Any

from shared_models.drawing import Chart

FURTHEST = 8.0
"""Powers of two at which a whisker is cut."""


def hazard_plot(rows: list[dict[str, Any]], *, pooled: bool = False) -> str:
    """Draw one column a line on a logarithmic scale; empty where no ratio is known.

    Parameters
    ----------
    rows : list of dict
        ``name``, ``scale`` (standard deviation of the column), ``federated`` and ``pooled`` (``ratio``, ``low`` and ``high`` of one unit, or None),
        and ``profile`` (``low`` and ``high``, or None), which may be left out.
    pooled : bool
        Draw the pooled fit as squares below the federated one's dots; a column that it alone knows then has its line, too.
    """
    drawn = [row for row in rows if row["federated"] or (pooled and row["pooled"])]
    if not drawn:
        return ""
    kinds = ("federated", "profile", *(("pooled",) if pooled else ()))
    spans = [{kind: _powers(row, row[kind]) for kind in kinds if row.get(kind)} for row in drawn]
    ends = [end for span in spans for powers in span.values() for end in powers.values()]
    low, high = math.floor(min([-1.0, *ends])), math.ceil(max([1.0, *ends]))
    step, top = 38, 10
    chart = Chart(1000, top + step * len(drawn) + 48, (low, high), (0, 1), left=260, right=200, top=top, bottom=48)
    foot = chart.height - chart.bottom
    for power in range(low, high + 1):
        chart.segment("chance" if power == 0 else "grid", chart.at_x(power), top, chart.at_x(power), foot)
        chart.label("tick", chart.at_x(power), foot + 15, f"{2.0**power:g}", text_anchor="middle")
    middle = (chart.left + chart.width - chart.right) / 2
    chart.label("axis", middle, chart.height - 6, "Hazard ratio of one standard deviation", text_anchor="middle")
    for place, (row, span) in enumerate(zip(drawn, spans, strict=True)):
        y = top + step * place + step / 2
        chart.label("name", 248, y + 4, row["name"] if len(row["name"]) < 34 else f"{row['name'][:32]}…", text_anchor="end")
        if "profile" in span:
            profile = {"low": low, "high": high, **span["profile"]}
            chart.segment("whisker alone thin", chart.at_x(profile["low"]), y + 9, chart.at_x(profile["high"]), y + 9)
        if "pooled" in span:
            _dot(chart, "pooled", span["pooled"], y + 7)
        if "federated" in span:
            wald = span["federated"]
            _dot(chart, "federated", wald, y - 4 if pooled else y)
            text = f"{2 ** wald['ratio']:.2f} ({2 ** wald['low']:.2f} to {2 ** wald['high']:.2f})"
            chart.label("value federated", chart.width - 186, y + 4, text)
    told = "; ".join(f"{row['name']} {2 ** span['federated']['ratio']:.2f}" for row, span in zip(drawn, spans, strict=True) if "federated" in span)
    return chart.svg("plot-hazards", "Hazard ratios of one standard deviation", f"{'Federated: ' if pooled else ''}{told}.")


def _dot(chart: Chart, key: str, powers: dict[str, float], y: float) -> None:
    chart.segment(f"whisker {key}", chart.at_x(powers["low"]), y, chart.at_x(powers["high"]), y)
    x = chart.at_x(powers["ratio"])
    if key == "federated":
        chart.add("circle", f"mark {key}", cx=x, cy=y, r=6)
    else:
        chart.add("rect", f"mark {key}", x=x - 4, y=y - 4, width=8, height=8)


def _powers(row: dict[str, Any], cell: dict[str, float | None]) -> dict[str, float]:
    """Return the ratios of one standard deviation that are known as powers of two."""
    known = {end: row["scale"] * math.log(cell[end] or 1.0) / math.log(2) for end in ("ratio", "low", "high") if cell.get(end) is not None}
    return {end: max(-FURTHEST, min(FURTHEST, power)) for end, power in known.items()}
