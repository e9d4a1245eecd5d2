"""The pictures of an evaluation: reliability and decision curve of each class."""

from __future__ import annotations

from typing import Any

from server.reports.wording import shown
from shared_models.drawing import Chart, nice_ticks


def class_panels(name: str, place: int, curves: dict[str, Any]) -> list[dict[str, str]]:
    """Return the pictures of one class as ``{title, svg}``: stated probability against what came true, and net benefit by threshold.

    A class that nobody has, or everybody, has no decision curve, and a model that was never asked no reliability: what does not exist is left out.
    """
    panels = []
    if curves["reliability"]:
        panels.append({"title": f"{name}: reliability", "svg": _reliability(name, place, curves["reliability"])})
    if curves["decision"]:
        panels.append({"title": f"{name}: net benefit", "svg": _decision(name, place, curves["decision"])})
    return panels


def _reliability(name: str, place: int, rows: list[dict[str, Any]]) -> str:
    chart = Chart(300, 260, (0, 1), (0, 1), left=48, right=10, top=10)
    chart.axis_x([0, 0.25, 0.5, 0.75, 1], "Stated probability")
    chart.axis_y([0, 0.25, 0.5, 0.75, 1], "Came true")
    chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(1), chart.at_y(1))
    for row in rows:
        x = chart.at_x(row["confidence"])
        chart.segment("whisker federated", x, chart.at_y(row["low"]), x, chart.at_y(row["high"]))
        says = f"{row['n']} cases: stated {row['confidence']:.2f}, came true {row['true']:.2f}"
        chart.dot("federated", row["confidence"], row["true"], 4, says)
    told = "; ".join(f"{row['n']} cases stated {row['confidence']:.2f}, came true {row['true']:.2f}" for row in rows)
    return chart.svg(f"plot-reliable-{place}", f"Reliability of {name}", f"{told}.")


def _decision(name: str, place: int, curve: dict[str, list[Any]]) -> str:
    xs, model, everybody = curve["thresholds"], curve["model"], curve["all"]
    top = max(*model, *everybody, 0.05)
    floor = -top / 4
    ticks = nice_ticks(floor, top, 4)
    chart = Chart(300, 260, (xs[0], xs[-1]), (ticks[0], ticks[-1]), left=54, right=10, top=10)
    chart.axis_x([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "Act from this probability on")
    chart.axis_y(ticks, "Net benefit")
    chart.segment("chance", chart.at_x(xs[0]), chart.at_y(0), chart.at_x(xs[-1]), chart.at_y(0))
    chart.spread("federated", xs, curve["model_low"], curve["model_high"])
    chart.line("alone", xs, [value if value >= ticks[0] else None for value in everybody], "5 3")
    chart.line("federated", xs, [value if value >= ticks[0] else None for value in model], "")
    ends = [f" ({shown(low)} to {shown(high)})" if low is not None else "" for low, high in zip(curve["model_low"], curve["model_high"], strict=True)]
    at = [f"at {xs[i]:g} the model {shown(model[i])}{ends[i]}, acting on all {shown(everybody[i])}" for i in (5, 25, 45)]
    words = f"Full line the model with its 95 % limits, dashed acting on everybody, dotted on nobody; {'; '.join(at)}."
    return chart.svg(f"plot-decision-{place}", f"Net benefit of {name}", words)
