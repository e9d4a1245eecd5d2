"""Arrays that rest in a phase of a run (frozen layers, fitted statistics): kept at the site, so that they travel once and not every round.

<workspace>/rested/<digest>.safetensors      0600
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, Refused
from shared_models.core.files import read_state, write_state
from shared_models.core.state import digest
from shared_models.messages import Job
from shared_models.phases import Phase

MOST = 4
"""Sets that are kept, the newest: of runs that go on side by side."""


def whole_job(job: Job, phase: Phase, workspace: Path) -> Job:
    """Return `job` with all arrays of its state: those that rest are kept for later jobs, or, where they were left out, put back.

    Raises
    ------
    Refused
        E_RESTS: the arrays that the job leaves out are not here any more; the server sends them again.
    """
    if job.kind != "fit" or not phase.train_only:
        return job
    folder = workspace / "rested"
    if not job.rests:
        part = phase.changed(job.state)
        _keep(folder, {key: value for key, value in job.state.items() if key not in part})
        return job
    return replace(job, state={**_kept(folder, job.rests), **job.state}, rests="")


def _keep(folder: Path, state: State) -> None:
    path = folder / f"{digest(state)}.safetensors"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_state(path, state, mode=0o600, durable=False)
    path.touch()
    for old in sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)[:-MOST]:
        old.unlink(missing_ok=True)


def _kept(folder: Path, rests: str) -> State:
    try:
        state = read_state(folder / f"{rests}.safetensors")
    except (OSError, BadInput):
        state = {}
    if digest(state) != rests:
        raise Refused("arrays that rest are kept at the site", remedy="nothing: the server sends them again", code="E_RESTS")
    return state
