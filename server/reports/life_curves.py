"""The life table of a federation as curves and as a table with numbers at risk."""

from __future__ import annotations

from typing import Any

import numpy as np

from server.reports.wording import shown
from shared_models.drawing import DASHES, Chart, apart, nice_ticks
from shared_models.survival.life_table import Curve, LifeTable, aalen_johansen, kaplan_meier


def life_curves(told: dict[str, Any] | None) -> dict[str, Any]:
    """Return ``{svg, rows, causes, patients}`` of a run's life table; empty where there is none, or it tells of nobody.

    One kind of event gives the Kaplan-Meier curve, several the Aalen-Johansen incidence of each. A row is an interval: who was at risk when it
    began, events of each cause, losses (None of the last: who stays is not told), and the share without any event at its end with its limits.

    Parameters
    ----------
    told : dict or None
        ``patients``, ``causes`` and, by interval, ``times``, ``at_risk`` and ``events`` (causes, intervals).
    """
    if not told or not told["times"]:
        return {}
    table = LifeTable(np.array(told["times"]), np.array(told["at_risk"]), np.array(told["events"]).reshape(len(told["causes"]), -1))
    survival = kaplan_meier(table)
    curves = {"without an event": survival} if len(told["causes"]) == 1 else {n: aalen_johansen(table, k) for k, n in enumerate(told["causes"], 1)}
    return {"svg": _chart(curves, survival), "rows": _rows(table, survival), "causes": told["causes"], "patients": told["patients"]}


def _rows(table: LifeTable, survival: Curve) -> list[dict[str, Any]]:
    lost = [*(table.at_risk[:-1] - table.events[:, :-1].sum(0) - table.at_risk[1:]), None]
    return [
        {
            "start": float(table.times[place - 1]) if place else 0.0,
            "end": float(end),
            "at_risk": int(table.at_risk[place]),
            "events": [int(count) for count in table.events[:, place]],
            "lost": None if lost[place] is None else int(lost[place]),
            "share": [float(part[place]) for part in (survival.values, survival.low, survival.high)],
        }
        for place, end in enumerate(table.times)
    ]


def _chart(curves: dict[str, Curve], survival: Curve) -> str:
    last = float(survival.times[-1])
    chart = Chart(720, 320, (0, last), (0, 1), left=54)
    chart.axis_x([tick for tick in nice_ticks(0, last, 8) if tick <= last], "Time")
    chart.axis_y([0, 0.25, 0.5, 0.75, 1], "Share without an event" if len(curves) == 1 else "Share with the event")
    for place, curve in enumerate(curves.values()):
        css = "federated" if len(curves) == 1 else f"hue{place}"
        for values, dashes in ((curve.low, "1 4"), (curve.high, "1 4"), (curve.values, DASHES[place % len(DASHES)])):
            xs, ys = _steps(curve, values)
            chart.line(css if values is curve.values else f"{css} alone", xs, ys, dashes)
    if len(curves) > 1:
        ends = apart([chart.at_y(float(curve.values[-1])) - 6 for curve in curves.values()], 13.0, chart.top + 13, chart.height - chart.bottom - 4)
        for place, (name, end) in enumerate(zip(curves, ends, strict=True)):
            chart.label(f"tick hue{place}", chart.width - 16, end, name, text_anchor="end")
    said = "; ".join(f"{name}: {shown(float(curve.values[-1]))} at {last:g}" for name, curve in curves.items())
    return chart.svg("plot-life-table", "Survival" if len(curves) == 1 else "Incidence of each cause", f"{said}.")


def _steps(curve: Curve, values: np.ndarray) -> tuple[list[float], list[float | None]]:
    """Return a curve that stays until the end of an interval and then steps."""
    xs, ys = [0.0], [curve.start]
    for time, value in zip(curve.times, values, strict=True):
        xs += [float(time), float(time)]
        ys += [ys[-1], float(value)]
    return xs, list(ys)
