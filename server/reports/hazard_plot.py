"""The forest plot of a Cox model: hazard ratios of one standard deviation with Wald's interval, and below it that of the profile likelihood."""

from __future__ import annotations

import math
from typing import Any

from shared_models.drawing import Chart

FURTHEST = 8.0
"""Powers of two at which a whisker is cut."""


def hazard_plot(rows: list[dict[str, Any]]) -> str:
    """Draw one column a line on a logarithmic scale; empty where no ratio is known.

    Parameters
    ----------
    rows : list of dict
        ``name``, ``scale`` (standard deviation of the column), ``federated`` (``ratio``, ``low`` and ``high`` of one unit, or None) and ``profile``
        (``low`` and ``high``, or None).
    """
    drawn = [row for row in rows if row["federated"]]
    if not drawn:
        return ""
    spans = [_powers(row, row["federated"]) for row in drawn] + [_powers(row, row["profile"]) for row in drawn if row["profile"]]
    ends = [end for span in spans for end in span.values()]
    low, high = math.floor(min([-1.0, *ends])), math.ceil(max([1.0, *ends]))
    step, top = 38, 10
    chart = Chart(1000, top + step * len(drawn) + 48, (low, high), (0, 1), left=220, right=200, top=top, bottom=48)
    foot = chart.height - chart.bottom
    for power in range(low, high + 1):
        chart.segment("chance" if power == 0 else "grid", chart.at_x(power), top, chart.at_x(power), foot)
        chart.label("tick", chart.at_x(power), foot + 15, f"{2.0**power:g}", text_anchor="middle")
    middle = (chart.left + chart.width - chart.right) / 2
    chart.label("axis", middle, chart.height - 6, "Hazard ratio of one standard deviation", text_anchor="middle")
    for place, row in enumerate(drawn):
        y, wald = top + step * place + step / 2, _powers(row, row["federated"])
        chart.label("name", 208, y + 4, row["name"] if len(row["name"]) < 27 else f"{row['name'][:25]}…", text_anchor="end")
        if row["profile"]:
            profile = {"low": low, "high": high, **_powers(row, row["profile"])}
            chart.segment("whisker alone thin", chart.at_x(profile["low"]), y + 9, chart.at_x(profile["high"]), y + 9)
        chart.segment("whisker federated", chart.at_x(wald["low"]), y, chart.at_x(wald["high"]), y)
        chart.add("circle", "mark federated", cx=chart.at_x(wald["ratio"]), cy=y, r=6)
        text = f"{2 ** wald['ratio']:.2f} ({2 ** wald['low']:.2f} to {2 ** wald['high']:.2f})"
        chart.label("value federated", chart.width - 186, y + 4, text)
    told = "; ".join(f"{row['name']} {2 ** _powers(row, row['federated'])['ratio']:.2f}" for row in drawn)
    return chart.svg("plot-hazards", "Hazard ratios of one standard deviation", f"{told}.")


def _powers(row: dict[str, Any], cell: dict[str, float | None]) -> dict[str, float]:
    """Return the ratios of one standard deviation that are known as powers of two."""
    known = {end: row["scale"] * math.log(cell[end] or 1.0) / math.log(2) for end in ("ratio", "low", "high") if cell.get(end) is not None}
    return {end: max(-FURTHEST, min(FURTHEST, power)) for end, power in known.items()}
