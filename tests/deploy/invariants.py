"""What must hold after every fault, in one place: the model, the rounds, what is left behind, and what was seen outside the sites."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from server.queue import Queue
from server.runs.checkpoint import load_latest
from server.runs.log import read_rounds
from server.runs.standing import read_standing
from shared_models.core.files import read_json, read_state
from shared_models.core.state import is_finite
from sim.deployment import Deployment

FEWEST_SITES = 3


def check_run(deployment: Deployment, run: str, names: Sequence[str]) -> Path:
    """Return the folder of a finished run in which every promise held, whatever was done to it."""
    folder = deployment.server / "runs" / run
    assert Queue(deployment.server / "queue.db").get(run).state == "finished"
    check_rounds(folder)
    wanted = read_standing(folder)["rounds"]
    assert [line["round"] for line in read_rounds(folder / "rounds.jsonl")] == list(range(1, wanted + 1)), "each round is released once"
    assert is_finite(read_state(folder / "final.safetensors")), "the final model is finite"
    assert not (folder / "spool").exists() or not any((folder / "spool").rglob("*.*")), "no reply is left in the spool"
    assert not list(folder.rglob("*.part")), "no temporary file"
    check_names(deployment, names)
    return folder


def check_rounds(folder: Path) -> None:
    """Look at the rounds of a run that may still be on its way: they increase, three sites stand behind each, the checkpoint is whole."""
    rounds = read_rounds(folder / "rounds.jsonl")
    numbers = [line["round"] for line in rounds]
    assert numbers == sorted(set(numbers)), "rounds strictly increase"
    for line in rounds:
        behind = [site for site, record in line["sites"].items() if record["refused"] is None and record["num_cases"] > 0]
        assert len(behind) >= FEWEST_SITES, f"round {line['round']} was released on {behind}"
        assert not set(behind) & set(line["missing"])
        assert line["degraded"] == bool(line["missing"])
    checkpoint = load_latest(folder / "checkpoints", experiment=read_json(folder / "start.json")["experiment"]) if rounds else None
    if checkpoint is not None:
        assert is_finite(checkpoint.state)
        assert checkpoint.round >= numbers[-1] - 1, "at most the round that is being written is not in the checkpoint yet"


def check_names(deployment: Deployment, names: Sequence[str]) -> None:
    """Look for patients of the sites in every file of the server; their names are a site's name and three digits (`tests/client/sites`)."""
    patient = re.compile(rb"(?:" + b"|".join(name.encode() for name in names) + rb")[0-9]{3}")
    at_home = deployment.site(names[0]) / "patches.npz"
    assert at_home.exists()
    for path in sorted(deployment.server.rglob("*")):
        if path.is_file():
            assert patient.search(path.read_bytes()) is None, f"a patient's name is outside: {path.relative_to(deployment.server)}"
