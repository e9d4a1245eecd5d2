"""The plain-language part of a comparison."""

from __future__ import annotations

from typing import Any

from server.reports.wording import counted, listed, metric_title, shown

SURE = 0.05
"""Level of the tests."""


def test_words(found: dict[str, Any]) -> str:
    """Return what the tests are, in a sentence."""
    n = len(found["seeds"])
    others = sum(1 for arm in found["arms"][1:] if arm["finished"])
    many = f"; p is adjusted for {counted(others, 'comparison')} by Holm's method" if others > 1 else ""
    few = " With so few seeds only large, steady differences can be shown." if n < 10 else ""
    return f"Two-sided paired t-test over seeds (n = {n}){many}.{few}"


def sentences(found: dict[str, Any]) -> list[str]:
    """Return the summary: what was compared, what came first, what differs from the first strategy for sure, what failed."""
    arms, headline = found["arms"], found["headline"]
    done = [arm for arm in arms if arm["finished"] and arm["metrics"][headline]["value"] is not None]
    title, n = metric_title(headline), len(found["seeds"])
    many = f"{len(arms)} strategies" if len(arms) > 1 else "One strategy"
    said = [
        f"{many} trained the model {found['model']} for {counted(found['rounds'], 'round')} with {counted(n, 'seed')} each, and every model "
        f"was tested on {found['data']['tests']}."
    ]
    if done:
        higher = found["better"] == "higher"
        best = sorted(done, key=lambda arm: arm["metrics"][headline]["value"], reverse=higher)[0]
        said.append(f"{title}: the best mean over seeds was {shown(best['metrics'][headline]['value'])}, by {best['label']}.")
    first = arms[0]
    if first["finished"] and len(done) > 1:
        said.append(_differences(found, first, [arm for arm in done if arm is not first]))
    failed = [arm["label"] for arm in arms if arm["finished"] < n]
    if failed:
        said.append(f"Not all runs of {listed(failed)} finished: the reasons stand below.")
    return [sentence.replace(" %", "\N{NO-BREAK SPACE}%") for sentence in said]


def _differences(found: dict[str, Any], first: dict[str, Any], others: list[dict[str, Any]]) -> str:
    higher = found["better"] == "higher"
    sure = [arm for arm in others if arm["against"] and arm["against"]["p_holm"] is not None and arm["against"]["p_holm"] < SURE]

    def told(arm: dict[str, Any]) -> str:
        return f"{arm['label']} (by {shown(abs(arm['against']['value']))})"

    better = [told(arm) for arm in sure if (arm["against"]["value"] > 0) == higher]
    worse = [told(arm) for arm in sure if (arm["against"]["value"] > 0) != higher]
    parts = [f"better: {listed(better)}"] if better else []
    parts += [f"worse: {listed(worse)}"] if worse else []
    if not parts:
        return f"No strategy differs from {first['label']} beyond what the chance of {counted(len(found['seeds']), 'seed')} explains."
    return f"Against {first['label']}, beyond the chance of seeds, were {'; '.join(parts)}. Whether other patients would agree is another question."
