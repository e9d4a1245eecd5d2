"""The order of models, said only where patients enough stand behind it; and the collapse across sites that a pooled figure hides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEAST = 10
"""Patients with each class that an order of models, sites or groups needs: with nine, the interval of an AUROC spans a quarter."""

COLLAPSE = 0.15
"""A model that loses this much AUROC from its own site to another, past both intervals, does not carry over."""

POOLED_MORE = 0.1
"""From this much more AUROC over all patients together than within their sites on, the pooled figure is said to be of the sites."""


def ranking(figures: Mapping[str, Mapping[str, Any]], positives: Mapping[str, int], *, least: int = LEAST) -> dict[str, Any]:
    """Return models by falling figure, or why they are not ranked.

    Parameters
    ----------
    figures : mapping
        Model name to a cell with ``value``.
    positives : mapping
        Class name to patients that have it, among those who were judged.

    Examples
    --------
    >>> ranking({"a": {"value": .8}, "b": {"value": .9}}, {"UIP": 20, "normal": 30})["order"]
    ['b', 'a']
    >>> ranking({"a": {"value": .8}}, {"UIP": 6, "normal": 30})
    {'order': None, 'why': 'not ranked: 6 patients with UIP, 10 are needed'}
    """
    rare = [f"{count} patients with {name}" for name, count in positives.items() if count < least]
    if rare:
        return {"order": None, "why": f"not ranked: {', '.join(rare)}, {least} are needed"}
    known = {name: cell["value"] for name, cell in figures.items() if cell.get("value") is not None}
    return {"order": sorted(known, key=lambda name: (-known[name], name)), "why": ""}


def collapses(matrix: Mapping[str, Mapping[str, Mapping[str, Any]]], *, lost: float = COLLAPSE) -> list[dict[str, Any]]:
    """Return where a model that is good on its own site's patients fails on another site's.

    Parameters
    ----------
    matrix : mapping
        Model (named after the site that trained it) to site to a cell with ``value``, ``low`` and ``high``.

    Examples
    --------
    >>> good, bad = {"value": .95, "low": .9, "high": .99}, {"value": .5, "low": .4, "high": .6}
    >>> collapses({"a": {"a": good, "b": bad}, "b": {"a": good, "b": good}})
    [{'model': 'a', 'site': 'b', 'at_home': 0.95, 'there': 0.5}]
    """
    found = []
    for model, row in matrix.items():
        home = row.get(model, {})
        for site, cell in row.items():
            if site == model or home.get("value") is None or cell.get("value") is None:
                continue
            apart = home.get("low") is not None and cell.get("high") is not None and cell["high"] < home["low"]
            if apart and home["value"] - cell["value"] >= lost:
                found.append({"model": model, "site": site, "at_home": home["value"], "there": cell["value"]})
    return found


def pooling(pooled: Mapping[str, Any], sites: Mapping[str, Mapping[str, Any]], *, more: float = POOLED_MORE) -> dict[str, Any]:
    """Return what of a pooled figure comes from comparing patients of different sites: the mean within sites, and whether it is hidden.

    A model that knows the hospital alone ranks patients rightly across hospitals of other case mix, and within none of them.

    Parameters
    ----------
    pooled : mapping
        Cell of all patients together.
    sites : mapping
        Site to its cell with ``value`` and ``patients``.

    Examples
    --------
    >>> cells = {"a": {"value": .5, "patients": 30}, "b": {"value": .54, "patients": 10}}
    >>> pooling({"value": .9}, cells)
    {'pooled': 0.9, 'within': 0.51, 'hides': True}
    """
    known = [(cell["value"], cell.get("patients") or 1) for cell in sites.values() if cell.get("value") is not None]
    value = pooled.get("value")
    if len(known) < 2 or value is None:
        return {"pooled": value, "within": None, "hides": False}
    within = sum(one * patients for one, patients in known) / sum(patients for _, patients in known)
    return {"pooled": value, "within": round(within, 12), "hides": bool(value - within >= more)}


def site_gap(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the worst site and how far it lies under the best one.

    Examples
    --------
    >>> site_gap({"a": {"value": .9}, "b": {"value": .7}, "c": {"value": None}})
    {'worst': 'b', 'best': 'a', 'gap': 0.2, 'undefined': ['c']}
    """
    known = {name: cell["value"] for name, cell in cells.items() if cell.get("value") is not None}
    undefined = sorted(set(cells) - set(known))
    if len(known) < 2:
        return {"worst": None, "best": None, "gap": None, "undefined": undefined}
    worst, best = min(known, key=lambda name: (known[name], name)), max(known, key=lambda name: (known[name], name))
    return {"worst": worst, "best": best, "gap": round(known[best] - known[worst], 12), "undefined": undefined}
