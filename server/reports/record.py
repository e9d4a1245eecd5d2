"""What a run folder holds, read tolerantly: only ``metrics.json`` must be there, everything else is shown when it is."""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_models.core.errors import BadInput
from shared_models.metrics.spec import number

PICTURE_BYTES = 3_000_000
"""Largest picture that goes into a report."""

Cell = dict[str, Any]
"""``value``, ``low``, ``high`` and ``n`` of a metric; None is *undefined*."""


@dataclass(frozen=True)
class Arm:
    """One way of training, evaluated on the same unseen patients.

    Parameters
    ----------
    key : str
        ``federated``, ``pooled``, ``mean`` (of the hospitals that train alone), ``local:SITE``, or the key found in the file.
    title : str
        Name for readers.
    cells : dict
        Metric name to `Cell`.
    folds : dict
        Fold name to metrics, for cross-validated experiments.
    """

    key: str
    title: str
    cells: dict[str, Cell]
    folds: dict[str, dict[str, Cell]] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """All that a report shows. `notes` says what could not be read."""

    name: str
    metrics: dict[str, Any]
    kind: str
    classes: list[str]
    arms: list[Arm]
    sites: dict[str, dict[str, Cell]]
    personal: dict[str, dict[str, Cell]]
    rounds: list[dict[str, Any]]
    curves: dict[str, dict[str, Any]]
    run: dict[str, Any]
    pictures: list[dict[str, Any]]
    prepared: list[dict[str, Any]]
    notes: list[str]

    def arm(self, key: str) -> Arm | None:
        """Return the arm called `key`, or None."""
        return next((arm for arm in self.arms if arm.key == key), None)


def as_cell(found: Any) -> Cell:
    """Return a metric as ``value, low, high, n``: a bare number has no interval, NaN and null are undefined.

    Examples
    --------
    >>> as_cell(0.5)
    {'value': 0.5, 'low': None, 'high': None, 'n': None}
    """
    if not isinstance(found, dict):
        found = {"value": found}
    ends = {key: None if not isinstance(found.get(key), int | float) else number(found[key]) for key in ("value", "low", "high")}
    return {**ends, "n": found.get("n")}


def as_cells(found: Any) -> dict[str, Cell]:
    """Return a table of metrics as cells; anything but a table is empty."""
    return {name: as_cell(value) for name, value in found.items()} if isinstance(found, dict) else {}


def mean_cells(tables: list[dict[str, Cell]], *, add_n: bool) -> dict[str, Cell]:
    """Return the mean of each metric over those tables that define it, with the lowest and highest value as ``least`` and ``most``.

    There is no interval: a mean of intervals is not one. `add_n` adds the cases (folds) instead of keeping the common number (arms).

    Examples
    --------
    >>> mean_cells([{"a": as_cell(1.0)}, {"a": as_cell(0.5)}, {"a": as_cell(None)}], add_n=False)["a"]
    {'value': 0.75, 'low': None, 'high': None, 'n': None, 'least': 0.5, 'most': 1.0, 'of': 2}
    """
    means: dict[str, Cell] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        known = [table[name] for table in tables if name in table and table[name]["value"] is not None]
        values, sizes = [cell["value"] for cell in known], [cell["n"] for cell in known if cell["n"] is not None]
        n = None if not sizes else sum(sizes) if add_n else sizes[0] if len(set(sizes)) == 1 else None
        mean = sum(values) / len(values) if values else None
        means[name] = {
            "value": mean,
            "low": None,
            "high": None,
            "n": n,
            "least": min(values, default=None),
            "most": max(values, default=None),
            "of": len(values),
        }
    return means


def _arm(key: str, title: str, found: Any) -> Arm | None:
    if not isinstance(found, dict):
        return None
    folds = {str(name): as_cells(table) for name, table in (found.get("folds") or {}).items()}
    cells = as_cells(found.get("held_out")) or (mean_cells(list(folds.values()), add_n=True) if folds else {})
    return Arm(key, title, cells, folds) if cells else None


def read_arms(metrics: dict[str, Any]) -> list[Arm]:
    """Return the arms of ``metrics.json``: federated, pooled, mean of the local ones, each local one, then any other that is recorded."""
    local = metrics.get("local_only") or {}
    alone = [arm for site, found in local.items() if (arm := _arm(f"local:{site}", f"{site} alone", found))]
    mean = mean_cells([arm.cells for arm in alone], add_n=False)
    arms = [
        _arm("federated", "Federated", metrics.get("federated")),
        _arm("pooled", "All data pooled", metrics.get("pooled")),
        Arm("mean", "Each alone, mean", mean) if mean else None,
        *alone,
        *(_arm(key, key.replace("_", " ").capitalize(), found) for key, found in metrics.items() if key not in ("federated", "pooled", "local_only")),
    ]
    return [arm for arm in arms if arm]


def read_record(folder: Path) -> Record:
    """Read a run folder.

    Parameters
    ----------
    folder : Path
        Holds ``metrics.json`` and, each optional, ``rounds.jsonl``, ``curves.json``, ``run.json``, ``site_reports.json`` and
        ``pictures/index.json`` with its PNG files.

    Raises
    ------
    BadInput
        ``metrics.json`` is missing or is not JSON. Damaged optional files are named in the report instead.
    """
    folder, notes = Path(folder), []
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput("a report needs the run's metrics.json", value=folder.name, remedy="name the folder of a finished run") from None
    except ValueError:
        raise BadInput("metrics.json must be JSON", value=folder.name, remedy="restore it or run again") from None
    if not isinstance(metrics, dict):
        raise BadInput("metrics.json must hold a table", value=type(metrics).__name__)
    curves = _optional(folder / "curves.json", dict, notes)
    drawn = {key: curves[key] for key in curves if key != "local_only" and isinstance(curves[key], dict)}
    drawn = {key: found.get("held_out", found) for key, found in drawn.items()}
    drawn |= {f"local:{site}": found.get("held_out", found) for site, found in (curves.get("local_only") or {}).items()}
    data = metrics.get("data") or {}
    return Record(
        name=str(metrics.get("experiment") or folder.name),
        metrics=metrics,
        kind=str(data.get("kind") or "unknown"),
        classes=[str(name) for name in metrics.get("classes") or []],
        arms=read_arms(metrics),
        sites={str(site): as_cells(table) for site, table in ((metrics.get("federated") or {}).get("sites") or {}).items()},
        personal={str(site): as_cells(table) for site, table in ((metrics.get("federated") or {}).get("personal") or {}).items()},
        rounds=_rounds(folder / "rounds.jsonl", notes),
        curves={key: found for key, found in drawn.items() if isinstance(found, dict) and found.get("n")},
        run=_optional(folder / "run.json", dict, notes),
        pictures=_pictures(folder / "pictures", notes),
        prepared=[_prepared(str(site), found) for site, found in _optional(folder / "site_reports.json", dict, notes).items()],
        notes=notes,
    )


def _optional(path: Path, kind: type, notes: list[str]) -> Any:
    if not path.exists():
        return kind()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, kind):
        notes.append(f"{path.name} is damaged and was left out.")
        return kind()
    return found


def _rounds(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    rounds: dict[Any, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found = json.loads(line)
            found["sites"] = {site: told if isinstance(told, dict) else {} for site, told in (found.get("sites") or {}).items()}
            rounds[int(found["round"])] = found  # a continued run writes a repeated round again: the last one counts
        except (ValueError, KeyError, TypeError, AttributeError):
            notes.append("A torn line of rounds.jsonl was left out.")
    return [rounds[key] for key in sorted(rounds)]


def _pictures(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    pictures = []
    for found in _optional(folder / "index.json", list, notes):
        name = str(found.get("file", "")) if isinstance(found, dict) else ""
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size > PICTURE_BYTES:
            notes.append("A picture that is missing, too large or outside the run folder was left out.")
            continue
        data = path.read_bytes()
        if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
            notes.append("A picture that is no PNG file was left out.")
            continue
        width, height = struct.unpack(">II", data[16:24])
        title, caption = str(found.get("title") or "Sample"), str(found.get("caption") or "")
        pictures.append({"title": title, "caption": caption, "width": width, "height": height, "data": base64.b64encode(data).decode()})
    return pictures


def _prepared(site: str, found: Any) -> dict[str, Any]:
    """Return ``accepted``, ``skipped``, ``quarantined`` as numbers and ``findings`` as (code, number), most frequent first."""
    found = found if isinstance(found, dict) else {}

    def count(value: Any) -> int | None:
        return len(value) if isinstance(value, list | dict) else value if isinstance(value, int) else None

    findings: Counter[str] = Counter()
    listed = found.get("findings") or {}
    if isinstance(listed, dict):
        findings.update({str(code): count(value) or 0 for code, value in listed.items()})
    for one in listed if isinstance(listed, list) else []:
        findings[str(one.get("code") if isinstance(one, dict) else one)] += one.get("count", 1) if isinstance(one, dict) else 1
    return {"site": site, **{key: count(found.get(key)) for key in ("accepted", "skipped", "quarantined")}, "findings": findings.most_common()}
