"""The numbers of a run by name: plain names with ``/`` between a hospital and its figure, as trackers group them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


def round_figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a round: time, bytes, change, sites; each site's metrics, and their mean over patients.

    Examples
    --------
    >>> sites = {"a": {"num_cases": 30, "metrics": {"val_loss": 1.0}}, "b": {"num_cases": 10, "metrics": {"val_loss": 0.2}}}
    >>> found = round_figures({"round": 1, "wall_s": 2.5, "bytes": 10, "norm": 0.5, "sites": sites, "missing": ["c"]})
    >>> found["mean/val_loss"], found["b/val_loss"], found["round/missing"]
    (0.8, 0.2, 1.0)
    """
    sites = line.get("sites") or {}
    told: dict[str, Any] = {
        "round/seconds": line.get("wall_s"),
        "round/bytes_up": line.get("bytes"),
        "round/bytes_down": line.get("bytes_down"),
        "round/change": line.get("norm"),
        "round/missing": len(line.get("missing") or ()),
        "round/sites": sum(not site.get("refused") for site in sites.values()),
    }
    sums: dict[str, list[float]] = {}
    for name, site in sites.items():
        for metric, value in (site.get("metrics") or {}).items():
            told[f"{name}/{metric}"] = value
            if isinstance(value, int | float) and math.isfinite(value) and site.get("num_cases"):
                weighed = sums.setdefault(metric, [0.0, 0.0])
                weighed[0] += value * site["num_cases"]
                weighed[1] += site["num_cases"]
    told |= {f"mean/{metric}": total / cases for metric, (total, cases) in sums.items()}
    total = line.get("total") or {}
    told |= {f"all sites/{metric}": value for metric, value in (total.get("metrics") or {}).items()}
    return _numbers(told)


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of ``metrics.json`` with their intervals; what is undefined is left out, and never told as a number.

    Examples
    --------
    >>> final_figures({"federated": {"held_out": {"ece": {"value": 0.1, "low": None, "high": 0.2}, "brier": {"value": None}}}})
    {'final/federated/held_out/ece': 0.1, 'final/federated/held_out/ece/high': 0.2}
    """
    return _numbers(dict(_cells("final/federated", metrics.get("federated") or {})))


def _cells(path: str, found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        here = f"{path}/{name}"
        if not isinstance(value, Mapping):
            yield here, value
        elif "value" in value:
            yield here, value["value"]
            yield from ((f"{here}/{end}", value.get(end)) for end in ("low", "high"))
        else:
            yield from _cells(here, value)


def _numbers(told: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in told.items() if isinstance(value, int | float) and math.isfinite(value)}
