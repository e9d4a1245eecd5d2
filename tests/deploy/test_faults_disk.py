"""A disk that is full at the server or at a site: what was written stays, the run waits and goes on to the same bits.

`RLIMIT_FSIZE` makes every write beyond its bytes fail in the kernel, half done, as a full disk does, without the rights that a mount needs;
the error is EFBIG in place of ENOSPC and takes the same way through the programs.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from server.runs.checkpoint import load_latest
from server.runs.standing import read_standing
from sim.deployment import running_in
from sim.federation_demo import differences
from tests.deploy.invariants import check_rounds
from tests.deploy.stage import WHOLE, Stage
from tests.soak.chaos import VICTIMS

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(3600)]

NO_ROOM = 0
SMALL_ONLY = 3000
"""Bytes: run.json still fits, no model does."""
STEADY_S = 8.0
"""Seconds without delta's answer after which it is not merely late."""
UNLIMITED = resource.RLIM_INFINITY


def test_a_full_disk_at_the_server_interrupts_with_a_code_and_the_run_goes_on_when_there_is_room(stage: Stage) -> None:
    undisturbed = stage.undisturbed(WHOLE)
    run = stage.order(WHOLE)
    folder = stage.deployment.server / "runs" / run
    stage.wait_for(lambda: len(stage.rounds(run)) >= 1 and load_latest(folder / "checkpoints", experiment=WHOLE.digest) is not None, "a checkpoint")
    hit = _fill(stage, SMALL_ONLY)
    try:
        stage.wait_for(lambda: stage.entry(run).state == "interrupted", "a run that cannot write must be interrupted")
        standing = read_standing(folder)
        assert (standing["status"], standing["code"]) == ("interrupted", "E_SYSTEM")
        assert stage.entry(run).note.startswith("E_SYSTEM")
        check_rounds(folder)
        assert load_latest(folder / "checkpoints", experiment=WHOLE.digest) is not None
    finally:
        _limit(hit, UNLIMITED)
    assert differences(stage.follow(run), undisturbed) == []


def test_a_full_disk_at_a_site_keeps_its_update_in_and_the_run_goes_on_when_there_is_room(stage: Stage) -> None:
    undisturbed = stage.undisturbed(WHOLE)
    run = stage.order(WHOLE)
    stage.wait_for(lambda: len(stage.rounds(run)) >= 1, "a round")
    spool, pid = stage.deployment.server / "runs" / run / "spool", running_in(stage.deployment.site("delta"))["resident"]["pid"]
    before, since = _record(stage).read_bytes(), [time.monotonic()]

    def waits_for_delta() -> bool:
        if sorted(path.stem for path in spool.rglob("*.json")) != ["alpha", "beta", "gamma"]:
            since[0] = time.monotonic()
        return time.monotonic() - since[0] >= STEADY_S

    _limit([pid], NO_ROOM)
    try:
        done = len(stage.rounds(run))
        stage.wait_for(waits_for_delta, "the three others must have answered, and the round wait for delta")
        assert len(stage.rounds(run)) <= done + 1
        assert _record(stage).read_bytes().startswith(before), "the record of what left is only ever appended to"
    finally:
        _limit([pid], UNLIMITED)
    assert differences(stage.follow(run), undisturbed) == []


def _fill(stage: Stage, size: int) -> list[int]:
    """Limit the server app and the superexec, from which the next server app inherits."""
    hit = [running_in(stage.deployment.server)["superexec"]["pid"], VICTIMS["server app"](stage.deployment, "")]
    return _limit([pid for pid in hit if pid is not None], size)


def _limit(pids: list[int], size: int) -> list[int]:
    for pid in pids:
        try:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))
        except ProcessLookupError:
            continue
    return pids


def _record(stage: Stage) -> Path:
    return stage.deployment.site("delta") / "workspace" / "what-left.jsonl"
