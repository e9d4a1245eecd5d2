"""What an administrator orders: a new run into the queue, a run's results out of it."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from server.flower import write_bundle
from server.folder import ServerFolder
from server.queue import Entry, Queue
from server.runs.tracking import known_tracker, track
from server.sites import on_roster
from shared_models.core.errors import BadExperiment, BadInput
from shared_models.core.files import write_atomic
from shared_models.experiment import Experiment
from shared_models.run_record import RECORD, RELEASED, SEAL

FEWEST_SITES = 3
"""A model released on fewer sites' updates shows one of them another's."""
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PULLED = (*RELEASED, RECORD, SEAL)
"""What a run leaves for others, with the signed record that names it."""


def order_run(
    server: ServerFolder,
    experiment: str,
    *,
    roster: list[str],
    quorum: int | None = None,
    deadline: str | None = None,
    settings: list[str],
    checks: Sequence[Callable[[Experiment], list[str]]] = (),
    tracker: str | None = None,
) -> str:
    """Check an experiment and its roster, make the run's folder, put it into the queue; return its identifier.

    What the sites will be asked to approve is ``experiment.json`` in the run's folder.

    Parameters
    ----------
    checks : sequence of callable
        Each gives the faults that it sees in the experiment as a site will receive it.
    tracker : str, optional
        A line of TRACKERS; no part of what the sites approve.

    Raises
    ------
    BadExperiment
        With every fault of the experiment.
    BadInput
        A site that is not approved, or a quorum that cannot be.
    """
    tracker = None if tracker is None else known_tracker(tracker)
    given = [*settings]
    if quorum is not None:
        given.append(f"federation.quorum={quorum}")
    if deadline is not None:
        given.append(f"federation.deadline_s={seconds_of(deadline)}")
    read = Experiment.load(path_of(experiment), given).for_sites()
    if wrong := [fault for check in checks for fault in check(read)]:
        raise BadExperiment(f"experiment {path_of(experiment).name}", faults=wrong)
    names = on_roster(server, [name.strip() for name in roster])
    if not FEWEST_SITES <= read.federation.quorum <= len(names):
        raise BadInput(
            f"a run's quorum is at least {FEWEST_SITES} and at most the number of its sites",
            value=read.federation.quorum,
            remedy=f"--quorum between {FEWEST_SITES} and {len(names)}",
        )
    run = secrets.token_hex(8)
    folder = server.runs / run
    folder.mkdir(parents=True, mode=0o700)
    text = read.to_json()
    write_atomic(folder / "experiment.json", text.encode())
    if tracker is not None:
        track(folder, tracker)
    write_bundle(folder / "app", experiment=text, run=run, sites=names, quorum=read.federation.quorum)
    Queue(server.path / "queue.db").add(Entry(run=run, experiment=read.name, sites=names))
    return run


def pull_run(server: ServerFolder, run: str, out: Path) -> Path:
    """Copy what a run has released into the new folder `out` and return it.

    Raises
    ------
    BadInput
        No such run, nothing released yet, or a folder that is in use.
    """
    folder = server.run_folder(run)
    if not (folder / "bundle" / "manifest.json").exists():
        raise BadInput("a run is pulled when it has finished", value=run, remedy="`fedild server status RUN` says how it stands")
    if out.exists() and any(out.iterdir()):
        raise BadInput("results go into a new or empty folder", value=str(out), remedy="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in PULLED:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name)
        elif (folder / name).exists():
            shutil.copyfile(folder / name, out / name)
    return out


def seconds_of(text: str) -> float:
    """Return a duration in seconds.

    Raises
    ------
    BadInput
        Not a number with s, m, h, d or nothing.

    Examples
    --------
    >>> seconds_of("90s"), seconds_of("2h"), seconds_of("45")
    (90.0, 7200.0, 45.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match.group(1)) <= 0:
        raise BadInput("a duration is a number with s, m, h or d", value=text, remedy="for example 90s, 30m or 2h")
    return float(match.group(1)) * _UNITS[match.group(2)]


def path_of(experiment: str) -> Path:
    """Return the path of an experiment's TOML.

    Raises
    ------
    BadInput
        There is no such file.
    """
    path = Path(experiment)
    if not path.is_file():
        raise BadInput("the experiment must be a TOML file", value=experiment, remedy="give its path")
    return path
