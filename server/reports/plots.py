"""The pictures of a report: comparison of ways to train, learning curves, ROC and reliability curves."""

from __future__ import annotations

from typing import Any

from server.reports.record import Arm, Record, as_cell
from server.reports.summary import BY_CHANCE
from server.reports.wording import interval_text, metric_title, shown
from shared_models.drawing import DASHES, Chart, nice_ticks


def style_of(key: str) -> str:
    """Return the CSS class of an arm: hue carries its role."""
    return key if key in ("federated", "pooled", "mean") else "alone"


def comparison(arms: list[Arm], metric: str, title: str) -> str:
    """Draw the arms one below the other, each with its value and 95 % interval on a common scale; empty without a defined value."""
    rows = [(arm, arm.cells[metric]) for arm in arms if metric in arm.cells]
    ends = [end for _, cell in rows for end in (cell["value"], cell["low"], cell["high"], cell.get("least"), cell.get("most")) if end is not None]
    if not ends:
        return ""
    chance = 0.5 if metric.startswith(BY_CHANCE) else None
    ticks = nice_ticks(min([*ends, *([chance] if chance else [])]), max(ends), 6)
    step, top = 34, 10
    chart = Chart(1000, top + step * len(rows) + 48, (ticks[0], ticks[-1]), (0, 1), left=210, right=190, top=top, bottom=48)
    chart.axis_x(ticks, f"{title} with 95 % interval")
    if chance is not None:
        chart.segment("chance", chart.at_x(chance), top, chart.at_x(chance), chart.height - chart.bottom)
        chart.label("tick", chart.at_x(chance) + 4, top + 8, "chance")
    for place, (arm, cell) in enumerate(rows):
        y, css = top + step * place + step / 2 + 4, style_of(arm.key)
        chart.label(f"name {css}", 200, y + 4, arm.title if len(arm.title) < 27 else arm.title[:25] + "…", text_anchor="end")
        low, high = (cell["low"], cell["high"]) if cell["low"] is not None else (cell.get("least"), cell.get("most"))
        if low is not None and high is not None:
            chart.segment(f"whisker {css}", chart.at_x(low), y, chart.at_x(high), y)
        if cell["value"] is not None:
            x = chart.at_x(cell["value"])
            if arm.key == "mean":
                chart.add("path", f"mark {css}", d=f"M{x - 7:g} {y:g}L{x:g} {y - 7:g}L{x + 7:g} {y:g}L{x:g} {y + 7:g}Z")
            elif arm.key == "pooled":
                chart.add("rect", f"mark {css}", x=x - 5.5, y=y - 5.5, width=11, height=11)
            else:
                chart.add("circle", f"mark {css}", cx=x, cy=y, r=7 if arm.key == "federated" else 5)
        chart.label(f"value {css}", chart.width - 176, y + 4, interval_text(cell) if arm.key != "mean" else f"{shown(cell['value'])} (no interval)")
    told = "; ".join(f"{arm.title}: {interval_text(cell)}" for arm, cell in rows)
    return chart.svg("plot-comparison", f"{title} of each way to train", f"Values with 95 % interval: {told}.")


def learning_curves(record: Record, headline: str) -> list[dict[str, Any]]:
    """Draw a value per round and hospital: the training loss and one validation metric; a list of ``{title, svg}``."""
    # A secure sum tells of all sites together, and of none alone.
    groups = [{"all sites": one["total"]} if one.get("total") else one["sites"] for one in record.rounds]
    sites = list(dict.fromkeys(site for one in groups for site in one))
    xs = [float(one["round"]) for one in record.rounds]
    metrics = list(dict.fromkeys(name for one in groups for found in one.values() for name in found.get("metrics") or {} if name != "train_loss"))
    validated = headline if headline in metrics else next(iter(metrics), None)
    drawn = []

    def values(site: str, metric: str | None) -> list[float | None]:
        found = [one.get(site) or {} for one in groups]
        return [as_cell(_loss_of(one) if metric is None else (one.get("metrics") or {}).get(metric))["value"] for one in found]

    for key, metric, title in (("loss", None, "Training loss"), ("validation", validated, "Validation")):
        lines = {site: values(site, metric) for site in sites}
        known = [value for line in lines.values() for value in line if value is not None]
        if not known or (key == "validation" and validated is None):
            continue
        ticks = nice_ticks(min(known), max(known))
        last = max(xs[-1], xs[0] + 1)
        chart = Chart(470, 290, (xs[0], last), (ticks[0], ticks[-1]), left=54)
        chart.axis_x([tick for tick in nice_ticks(xs[0], last, 6) if tick == int(tick) and xs[0] <= tick <= last], "Round")
        chart.axis_y(ticks, title if metric is None else metric_title(metric))
        for place, site in enumerate(sites):
            css = f"hue{place % 6}"
            chart.line(css, xs, lines[site], DASHES[place % len(DASHES)])
            for x, y in zip(xs, lines[site], strict=True):
                if y is not None:
                    chart.dot(css, x, y, 2.6 if len(xs) <= 60 else 1.2, f"{site}, round {x:g}: {y:.3f}")
        known_of = {site: [value for value in line if value is not None] or [None] for site, line in lines.items()}
        told = "; ".join(f"{site} from {shown(line[0])} to {shown(line[-1])}" for site, line in known_of.items())
        drawn.append({"title": title, "metric": metric, "svg": chart.svg(f"plot-{key}", f"{title} by round", f"First to last round: {told}.")})
    return drawn


def _loss_of(told: dict[str, Any]) -> Any:
    return told.get("train_loss", (told.get("metrics") or {}).get("train_loss"))


def legend(names: list[str]) -> list[dict[str, str]]:
    """Return for each name its CSS hue and its dashes, in the order in which `learning_curves` draws them."""
    return [{"name": name, "css": f"hue{place % 6}", "dashes": DASHES[place % len(DASHES)]} for place, name in enumerate(names)]


def roc_panels(record: Record) -> list[dict[str, Any]]:
    """Draw the ROC curves of one class a panel, one line an arm; a list of ``{title, svg}``. Classes without a curve say *undefined*."""
    arms = ["federated", "pooled", *(key for key in record.curves if key not in ("federated", "pooled"))]
    classes = list(dict.fromkeys(name for found in record.curves.values() for name in found.get("roc") or {}))
    panels = []
    for place, name in enumerate(classes):
        curves = {key: found for key in arms if (found := (record.curves.get(key, {}).get("roc") or {}).get(name))}
        if not curves:
            panels.append({"title": name, "svg": "", "areas": []})
            continue
        chart = Chart(250, 250, (0, 1), (0, 1), left=44, right=8, top=8, bottom=40)
        chart.axis_x([0, 0.5, 1], "1 − specificity")
        chart.axis_y([0, 0.5, 1], "Sensitivity")
        chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(1), chart.at_y(1))
        for key in reversed(curves):
            chart.line(style_of(key), curves[key]["fpr"], curves[key]["tpr"], "5 3" if key == "pooled" else "")
        areas = [(arm.title if (arm := record.arm(key)) else key, as_cell(found.get("auroc"))["value"]) for key, found in curves.items()]
        told = "; ".join(f"{title} {shown(area)}" for title, area in areas)
        panels.append({"title": name, "svg": chart.svg(f"plot-roc-{place}", f"ROC of {name}", f"Area under the curve: {told}."), "areas": areas})
    return panels


def reliability_panels(record: Record) -> list[dict[str, Any]]:
    """Draw stated probability against how often it came true for the federated and the pooled model; a list of ``{title, svg}``."""
    panels = []
    for key in ("federated", "pooled"):
        rows = (record.curves.get(key) or {}).get("reliability") or []
        if not rows:
            continue
        total = sum(row["n"] for row in rows)
        chart = Chart(300, 290, (0, 1), (0, 1), left=48, right=10, top=10)
        chart.axis_x([0, 0.25, 0.5, 0.75, 1], "Stated probability")
        chart.axis_y([0, 0.25, 0.5, 0.75, 1], "Came true")
        chart.segment("chance", chart.at_x(0), chart.at_y(0), chart.at_x(1), chart.at_y(1))
        for row in rows:
            if row.get("low") is not None:
                x = chart.at_x(row["confidence"])
                chart.segment(f"whisker {key}", x, chart.at_y(row["low"]), x, chart.at_y(row["high"]))
            says = f"{row['n']} cases: stated {row['confidence']:.2f}, came true {row['true']:.2f}"
            chart.dot(key, row["confidence"], row["true"], 3 + 9 * (row["n"] / total) ** 0.5, says)
        title = arm.title if (arm := record.arm(key)) else key.capitalize()
        told = "; ".join(f"{row['n']} cases stated {row['confidence']:.2f}, came true {row['true']:.2f}" for row in rows)
        panels.append({"title": title, "svg": chart.svg(f"plot-reliability-{key}", f"Reliability: {title}", f"{told}.")})
    return panels
