"""The pictures of a prognosis: survival by third of risk, AUC over time and ROC, calibration and net benefit at the horizons, hazard ratios."""

from __future__ import annotations

from typing import Any

from server.reports.hazard_plot import hazard_plot
from server.reports.plots import style_of
from server.reports.record import Record
from server.reports.survival import ratio_of
from server.reports.wording import interval_text, shown
from shared_models.drawing import DASHES, Chart, apart, nice_ticks
from shared_models.metrics import METRICS
from shared_models.metrics.prognosis_curves import told_at_horizons

ARMS = (("federated", "Federated"), ("pooled", "All data pooled"))
WIDE, HIGH = 330, 290
LINE = 13.0
"""Height of a line of text, in units of the drawing."""


def panels(record: Record) -> dict[str, Any]:
    """Return what the page of a prognosis shows, SVG and rows of tables; empty for any other run."""
    drawn = {key: record.curves[key]["prognosis"] for key, _ in ARMS if "prognosis" in record.curves.get(key, {})}
    if not drawn:
        return {}
    unit = str(record.metrics.get("time_unit") or "time")
    titles = dict(ARMS)
    ratios = hazard_rows(record.metrics.get("hazards") or {})
    return {
        "survival": [{"title": titles[key], "svg": thirds_chart(key, found["thirds"], unit)} for key, found in drawn.items()],
        "at_risk": {titles[key]: found["thirds"] for key, found in drawn.items() if found["thirds"]},
        "discrimination": [{"title": "AUC over time", "svg": auc_chart(drawn, unit)}, *_roc_panels(drawn, unit)],
        "calibration": _panels_of(drawn, "calibration", calibration_chart, unit),
        "decision": _panels_of(drawn, "decision", decision_chart, unit),
        "figures": figure_tables(drawn, unit),
        "hazards": hazard_plot(ratios, pooled=True),
        "ratios": ratios,
        "diagnoses": diagnosis_rows(record.metrics.get("diagnoses") or {}),
    }


def diagnosis_rows(told: dict[str, Any]) -> dict[str, Any]:
    """Return how well the second head names diagnoses: ``classes``, and a row a metric with a cell of each arm; empty without one."""
    arms = [(key, title) for key, title in ARMS if key in told]
    names = [name for name in told["federated"] if name in METRICS or name.startswith("auroc_")] if arms else []
    rows = [{"name": name, "cells": [told[key][name] for key, _ in arms]} for name in names]
    return {"classes": told["classes"], "arms": [title for _, title in arms], "rows": rows} if rows else {}


def _panels_of(drawn: dict[str, Any], what: str, draw: Any, unit: str) -> list[dict[str, str]]:
    horizons = list(dict.fromkeys(horizon for found in drawn.values() for horizon in found.get(what) or {}))
    known = {horizon: {key: found[what][horizon] for key, found in drawn.items() if (found.get(what) or {}).get(horizon)} for horizon in horizons}
    return [
        {"title": f"By {counted(horizon, unit)}", "svg": draw(f"plot-{what}-{number}", arms, horizon, unit)}
        for number, (horizon, arms) in enumerate(known.items())
        if arms
    ]


def counted(horizon: str, unit: str) -> str:
    """Return a horizon with its unit.

    Examples
    --------
    >>> counted("1", "years"), counted("5", "years"), counted("1", "time")
    ('1 year', '5 years', '1 time')
    """
    return f"{horizon} {unit.removesuffix('s') if horizon == '1' else unit}"


def thirds_chart(key: str, thirds: list[dict[str, Any]], unit: str) -> str:
    """Draw the survival curves of the thirds of the risk as steps with their limits."""
    last = thirds[0]["ticks"][-1] if thirds else 1.0
    chart = Chart(WIDE + 60, HIGH, (0, last), (0, 1), left=50)
    chart.axis_x(nice_ticks(0, last, 6), f"Time, {unit}")
    chart.axis_y([0, 0.25, 0.5, 0.75, 1], "Share without the event")
    for place, third in enumerate(thirds):
        css, end = f"hue{place}", min(last, max(third["times"][-1], 0.0))
        for part, dashes in (("low", "1 4"), ("high", "1 4"), ("survival", DASHES[place])):
            xs, ys = _steps(third["times"], third[part], end)
            chart.line(css if part == "survival" else f"{css} alone", xs, ys, dashes)
    ends = apart([chart.at_y(third["survival"][-1]) - 5 for third in thirds], LINE, chart.top + LINE, chart.height - chart.bottom - 4)
    for place, (third, end) in enumerate(zip(thirds, ends, strict=True)):
        chart.label(f"tick hue{place}", chart.width - 14, end, f"{third['name']} risk", text_anchor="end")
    told = "; ".join(
        f"{third['name']} risk: {third['events']} events among {third['n']}, {shown(third['survival'][-1])} at the end" for third in thirds
    )
    return chart.svg(f"plot-survival-{key}", "Survival by third of the predicted risk", f"{told}.")


def _steps(times: list[float], values: list[float], end: float) -> tuple[list[float], list[float | None]]:
    xs, ys = [times[0]], [values[0]]
    for time, before, after in zip(times[1:], values, values[1:], strict=False):
        xs += [time, time]
        ys += [before, after]
    return [*xs, end], [*ys, values[-1]]


def auc_chart(drawn: dict[str, Any], unit: str) -> str:
    """Draw AUC over time."""
    last = max((time for found in drawn.values() for time in found["auc"]["times"]), default=1.0)
    known = [value for found in drawn.values() for value in found["auc"]["values"] if value is not None]
    ticks = nice_ticks(min([0.4, *known]), 1.0)
    chart = Chart(WIDE, HIGH, (0, last), (ticks[0], ticks[-1]), left=50)
    chart.axis_x(nice_ticks(0, last, 6), f"Time, {unit}")
    chart.axis_y(ticks, "AUC")
    chart.segment("chance", chart.at_x(0), chart.at_y(0.5), chart.at_x(last), chart.at_y(0.5))
    for key, found in reversed(drawn.items()):
        chart.line(style_of(key), found["auc"]["times"], found["auc"]["values"], "5 3" if key == "pooled" else "")
    told = "; ".join(
        f"{key} {shown(next((v for v in reversed(found['auc']['values']) if v is not None), None))} at the end" for key, found in drawn.items()
    )
    return chart.svg("plot-auc-time", "AUC over time", f"{told}.")


def _roc_panels(drawn: dict[str, Any], unit: str) -> list[dict[str, str]]:
    return _panels_of(drawn, "roc", roc_chart, unit)


def roc_chart(name: str, arms: dict[str, Any], horizon: str, unit: str) -> str:
    """Draw the ROC curves at a horizon."""
    chart = Chart(WIDE, HIGH, (0, 1), (0, 1), left=50)
    chart.axis_x([0, 0.5, 1], "1 − specificity")
    chart.axis_y([0, 0.5, 1], "Sensitivity")
    chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(1), chart.at_y(1))
    for key, found in reversed(arms.items()):
        chart.line(style_of(key), found["fpr"], found["tpr"], "5 3" if key == "pooled" else "")
    for place, (key, found) in enumerate(arms.items()):
        chart.label(
            f"value {style_of(key)}", chart.at_x(0.98), chart.at_y(0.06 + 0.07 * place), f"{dict(ARMS)[key]} {shown(found['auc'])}", text_anchor="end"
        )
    told = "; ".join(f"{dict(ARMS)[key]} {shown(found['auc'])}" for key, found in arms.items())
    return chart.svg(name, f"ROC of the event by {counted(horizon, unit)}", f"Area under the curve: {told}.")


def calibration_chart(name: str, arms: dict[str, Any], horizon: str, unit: str) -> str:
    """Draw the stated risk against the share seen, by bin."""
    rows = [row for found in arms.values() for row in found["bins"]]
    most = min(1.0, max([0.2, *(row["stated"] for row in rows), *(row["high"] or row["seen"] for row in rows)]))
    ticks = nice_ticks(0, most, 5)
    chart = Chart(WIDE, HIGH, (0, ticks[-1]), (0, ticks[-1]), left=50)
    chart.axis_x(ticks, "Stated risk")
    chart.axis_y(ticks, "Had the event")
    chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(ticks[-1]), chart.at_y(ticks[-1]))
    for key, found in reversed(arms.items()):
        for row in found["bins"]:
            x = chart.at_x(row["stated"])
            if row["low"] is not None:
                chart.segment(f"whisker {key}", x, chart.at_y(row["low"]), x, chart.at_y(row["high"]))
            says = f"{dict(ARMS)[key]}: stated {shown(row['stated'])}, seen {interval_text({'value': row['seen'], **row})}, {row['n']} cases"
            chart.dot(key, row["stated"], row["seen"], 4.5, says)
    told = "; ".join(
        f"{dict(ARMS)[key]}: stated {shown(found['stated'])} on average, seen {interval_text({'value': found['seen'], **found})}"
        for key, found in arms.items()
    )
    return chart.svg(name, f"Calibration of the risk by {counted(horizon, unit)}", f"{told}.")


def decision_chart(name: str, arms: dict[str, Any], horizon: str, unit: str) -> str:
    """Draw the net benefit by threshold with the limits of the federated model, cut off a little below 0."""
    first = arms.get("federated") or next(iter(arms.values()))
    known = [value for value in first.get("model_high", []) if value is not None]
    best = max([0.05, *known, *(value for found in arms.values() for value in (*found["model"], *found["all"]))])
    ticks = nice_ticks(-0.1, best, 5)
    xs = first["thresholds"]
    chart = Chart(WIDE, HIGH, (0, nice_ticks(0, xs[-1], 4)[-1]), (ticks[0], ticks[-1]), left=54)
    chart.axis_x(nice_ticks(0, xs[-1], 4), "Threshold of risk")
    chart.axis_y(ticks, "Net benefit")
    chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(xs[-1]), chart.at_y(0))

    def shown_part(values: list[float]) -> list[float | None]:
        return [value if value >= ticks[0] else None for value in values]

    if "model_low" in first:
        chart.spread(next(iter(arms)), xs, first["model_low"], first["model_high"])
    chart.line("alone", xs, shown_part(first["all"]))
    for key, found in reversed(arms.items()):
        chart.line(style_of(key), xs, shown_part(found["model"]), "5 3" if key == "pooled" else "")
    told = "; ".join(f"{dict(ARMS)[key]} at most {shown(max(found['model']))}" for key, found in arms.items())
    return chart.svg(name, f"Net benefit of the risk by {counted(horizon, unit)}", f"{told}; acting on all at most {shown(max(first['all']))}.")


def figure_tables(drawn: dict[str, Any], unit: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables of calibration (horizon by arm) and of the federated model's net benefit (horizon by threshold)."""
    # Earlier builds recorded these curves without intervals: the pages of their runs have the pictures alone.
    told = {key: told_at_horizons(found) for key, found in drawn.items() if all("ratio" in one for one in found["calibration"].values() if one)}
    calibration = [
        {"horizon": counted(horizon, unit), "arm": dict(ARMS)[key], **cells["calibration"]}
        for key, of in told.items()
        for horizon, cells in of.items()
        if cells["calibration"]
    ]
    benefit = [
        {"horizon": counted(horizon, unit), "threshold": threshold, **cells}
        for horizon, of in told.get("federated", {}).items()
        for threshold, cells in (of["net_benefit"] or {}).items()
    ]
    return {"calibration": calibration, "benefit": benefit}


def hazard_rows(hazards: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each column with the hazard ratio of each arm, None where the data say nothing about it."""
    rows = []
    for number, name in enumerate(hazards.get("columns") or []):
        row: dict[str, Any] = {key: ratio_of(hazards[key]["columns"], number) if key in hazards else None for key, _ in ARMS}
        steady = hazards["federated"]["proportionality"]["p"][number]
        rows.append({"name": name, **row, "p": row["federated"] and row["federated"]["p"], "steady": steady, "scale": hazards["scale"][number]})
    return rows
