"""Round 0 of a run: the initial state, built once and kept in the run folder.

``python -m server.runs.start FOLDER RUN < EXPERIMENT`` builds it in a process of its own: networks need torch, and a server app that has
imported it holds its memory to the end of the run.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from server.runs.checkpoint import RoundState
from shared_models.catalogue import initial_state, inputs_of
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.files import read_json, read_state, write_json, write_state
from shared_models.experiment import Experiment
from shared_models.phases import reads_representation, start_of
from shared_models.representation import representation_width

BUILD_S = 600.0


def begin(experiment: Experiment, folder: Path, *, run: str | None = None) -> RoundState:
    """Return round 0 of a new run. A prepared ``start.safetensors`` in the folder is used; otherwise the state is built.

    A deployed run (with a name in `run`) has it built by another process.

    Raises
    ------
    BadInput
        The folder belongs to another experiment.
    FedILDError
        The state could not be built; the text is in ``start.log``.
    """
    note = folder / "start.json"
    if not note.exists() and run is None:
        write_start(experiment, folder)
    elif run is not None and not note.exists():
        _build(experiment, folder, run)
    start = read_json(note)
    if start["experiment"] != experiment.digest:
        raise BadInput("a run folder belongs to one experiment", remedy="choose another folder for another experiment")
    state = read_state(folder / "start.safetensors")
    return RoundState(run=start["run"], round=0, state=state, experiment=experiment.digest)


def write_start(experiment: Experiment, folder: Path, *, run: str | None = None) -> None:
    """Build the initial state (this imports torch for networks) and write it to the run folder."""
    inputs = inputs_of(experiment)
    state = initial_state(experiment.model, inputs=inputs, outputs=experiment.data.outputs, seed=experiment.seed)
    width = representation_width(experiment) if reads_representation(experiment) else 0
    write_state(folder / "start.safetensors", state | start_of(experiment, representation=width))
    write_json(folder / "start.json", {"run": run or secrets.token_hex(8), "inputs": inputs, "experiment": experiment.digest})


def _build(experiment: Experiment, folder: Path, run: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "start.log", "wb") as output:
        command = [sys.executable, "-m", "server.runs.start", str(folder), run]
        text = experiment.to_json().encode()
        done = subprocess.run(command, cwd=folder, input=text, stdout=output, stderr=output, timeout=BUILD_S, check=False)
    if done.returncode:
        raise FedILDError("the initial model must be built", value=f"exit code {done.returncode}", remedy="see start.log in the run folder")
    (folder / "start.log").unlink()


def main(arguments: list[str]) -> None:
    """Build the state of the experiment on standard input for the run folder and the run named in `arguments`."""
    write_start(Experiment.from_json(sys.stdin.read()), Path(arguments[0]), run=arguments[1])


if __name__ == "__main__":
    main(sys.argv[1:])
