"""`fedild zoo`: run every recipe that is not finished, ask what *works when* asks, write one page.

    <out>/hospitals/          prepared phantom hospitals, shared by all recipes
    <out>/<recipe>/           its run; variants/ what was federated beside it
    <out>/zoo.json zoo.html   the figures

A recipe that failed does not stop the others, is told, and is tried again the next time.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from shared_models.core.choices import look_up
from shared_models.core.errors import FedILDError
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from sim.check import load_checked
from sim.progress import Progress
from sim.simulation import simulate
from sim.zoo.chain import released
from sim.zoo.findings import findings, named
from sim.zoo.ran import Ran
from sim.zoo.systems import recipes, system_of


def zoo(out: Path, *, only: Sequence[str] = (), settings: Sequence[str] = (), processes: int | None = None, quiet: bool = False) -> Path:
    """Run recipes and write the page; return its path.

    Parameters
    ----------
    out : Path
        Folder; what is finished there, with the very same experiment, is not run again.
    only : sequence of str
        Recipes; all of them by default.
    settings : sequence of str
        ``table.key=value`` for every recipe.
    processes : int, optional
        Worker processes; one a core by default.

    Raises
    ------
    BadChoice
        No such recipe.
    """
    known = dict.fromkeys(recipes())
    names = [*dict.fromkeys(only)] or list(known)
    for name in names:
        look_up(known, name, kind="recipe")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Any] = {row["name"]: row for row in read_json(out / "zoo.json")["systems"]} if (out / "zoo.json").exists() else {}
    with Progress(quiet=quiet) as progress:
        step = progress.bar("systems")
        for number, name in enumerate(names, 1):
            rows[name] = _row(name, out, settings, processes or len(os.sched_getaffinity(0)), quiet)
            write_json(out / "zoo.json", {"systems": [rows[one] for one in known if one in rows]}, durable=False)
            progress.say(f"{name}: {in_words(rows[name])}")
            step(number, len(names))
    from server.reports.zoo import write_zoo

    return write_zoo(out)


def _row(name: str, out: Path, settings: Sequence[str], processes: int, quiet: bool) -> dict[str, Any]:
    try:
        with _begun(name, out, settings, processes, quiet) as begun:
            experiment = load_checked(name, [*settings, *begun])
            folder = finished(experiment, out / name, out / "hospitals", processes=processes, quiet=quiet)
            return findings(Ran(experiment, folder, out / "hospitals", processes))
    except Exception as error:
        ours = isinstance(error, FedILDError)
        told = {"error": str(error) if ours else repr(error), "traceback": "" if ours else traceback.format_exc(limit=8)}
        try:
            return named(load_checked(name, [*settings])) | told
        except FedILDError:
            return {"name": name} | told


def _begun(name: str, out: Path, settings: Sequence[str], processes: int, quiet: bool) -> AbstractContextManager[tuple[str, ...]]:
    """Run what a recipe starts from, unless it has run; return the settings that name its weights."""
    if not (before := system_of(name).after):
        return nullcontext(())
    run = finished(load_checked(before, [*settings]), out / before, out / "hospitals", processes=processes, quiet=quiet)
    return released(run / "bundle")


def finished(experiment: Experiment, folder: Path, store: Path, *, processes: int, quiet: bool = True) -> Path:
    """Return the folder of a finished run of `experiment`, run now unless it is there; a run of another experiment gives way."""
    note = folder / "experiment.json"
    if note.exists() and note.read_text(encoding="utf-8") != experiment.to_json():
        shutil.rmtree(folder)
    if not (folder / "report.html").exists():
        simulate(experiment, folder, processes=processes, hospitals=store, resume=note.exists(), quiet=quiet)
    return folder


def in_words(row: dict[str, Any]) -> str:
    """Return what came of a recipe in a line.

    Examples
    --------
    >>> in_words({"name": "x", "error": "no luck"})
    'failed: no luck'
    """
    if "error" in row:
        return f"failed: {' '.join(row['error'].split())[:300]}"
    value = row["federated"]["value"]
    missed = [f"{one['says']} {_shown(one['value'])} (asked {one['bound']})" for one in row["asked"] if one["met"] is False]
    return f"{row['headline']} {_shown(value)}; " + ("works" if row["works"] else "NOT MET: " + "; ".join(missed))


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def table(out: Path) -> list[list[str]]:
    """Return the rows of a zoo's table: system, task, parameters, bytes a round, seconds, federated, alone, pooled, met."""
    from server.reports.wording import interval_text, size_text

    lines = []
    for row in read_json(out / "zoo.json")["systems"]:
        if "error" in row:
            lines.append([row["name"], row.get("task", ""), *[""] * 6, "failed"])
            continue
        met = [one["met"] for one in row["asked"] if one["met"] is not None]
        figures = [f"{row['parameters']:,}", size_text(row["bytes_a_round"]), f"{row['seconds']:.0f}", interval_text(row["federated"])]
        lines.append([row["name"], row["task"], *figures, _shown(row["alone"]), _shown(row["pooled"]["value"]), f"{sum(met)} of {len(met)}"])
    return lines


COLUMNS = ("system", "task", "parameters", "a round", "s", "federated, unseen hospital", "alone, mean", "pooled", "works when")
