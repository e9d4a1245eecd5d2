"""Processes that are killed: each kind of them once, and the server app and a worker at the very moments that matter. The bits stay."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess

import pytest

from sim.deployment import PROGRAM
from sim.federation_demo import differences
from tests.deploy.stage import RUN_S, WHOLE, Stage
from tests.soak.chaos import HASTE, VICTIMS, Chaos

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(3600)]

REST = ("superlink", "supernode", "superexec", "door", "messenger", "daemon")
"""Whom the short chaos test (`tests/deploy/test_loopback.py`) does not kill; the daemon once more, as its SuperNode is let in late."""

MOMENTS = {
    "server-app-while-writing-a-checkpoint": {"event": "os.rename", "path": r"/server/runs/\w+/checkpoints/round-000001/manifest\.json$"},
    "server-app-between-rounds": {"event": "shutil.rmtree", "path": r"/server/runs/\w+/spool/round-000002$"},
    "server-app-mid-round": {"event": "os.rename", "path": r"/server/runs/\w+/spool/round-000003/beta\.json$"},
    "server-app-in-evaluation": {"event": "os.rename", "path": r"/server/runs/\w+/site_metrics\.json$"},
    "worker-while-writing-its-answer": {"event": "os.rename", "path": r"/sites/alpha/workspace/steps/000002-\w+\.frame$"},
    "worker-while-recording-what-leaves": {"event": "open", "path": r"/sites/delta/workspace/what-left\.jsonl$", "count": 2},
    "worker-in-evaluation": {"event": "os.rename", "path": r"/sites/gamma/workspace/steps/000004-\w+\.frame$", "count": 2},
}
"""Where in a run a process kills itself: what it is about to do. Gamma's second answer under round 4 is its evaluation of the final model."""


def test_killed_at_every_moment(stage: Stage) -> None:
    undisturbed = stage.undisturbed(WHOLE)
    for name, moment in MOMENTS.items():
        stage.plan.kill(name, **moment)
    folder = stage.follow(stage.order(WHOLE))
    assert stage.plan.left() == []
    assert differences(folder, undisturbed) == []


def test_every_kind_of_process_is_killed_once(stage: Stage) -> None:
    assert set(REST) | {"server", "server app", "daemon", "worker"} == set(VICTIMS)
    undisturbed = stage.undisturbed(WHOLE)
    storm = Chaos(stage.deployment, random.Random(7), list(REST), HASTE)
    run = stage.order(WHOLE)
    storm.begin()
    stage.deployment.follow(run, timeout_s=RUN_S, look=storm.look)
    storm.end()
    folder = stage.follow(run)
    stage.told(f"recovered after {', '.join(f'{seconds:.0f} s' for seconds in storm.recoveries_s)}")
    assert storm.kinds == [], "the run was over before all had been killed"
    assert differences(folder, undisturbed) == []


@pytest.mark.parametrize("side", ["server", "site"])
def test_a_second_start_in_one_folder_names_the_holder_and_a_stale_lock_is_taken_over(stage: Stage, side: str) -> None:
    folder = stage.deployment.server if side == "server" else stage.deployment.site("alpha")
    command = [*PROGRAM, side, "up", "--folder", str(folder)]
    second = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 2
    assert str(stage.deployment.pid(folder)) in re.sub(r"\s", "", second.stderr)
    assert stage.deployment.is_up(folder)
    before = stage.deployment.pid(folder)
    stage.deployment.kill(folder)
    assert (folder / "up.lock").read_text().strip() == str(before)  # what a killed one leaves behind
    stage.deployment.start_server() if side == "server" else stage.deployment.start_site("alpha")
    stage.wait_ready()
    assert stage.deployment.pid(folder) != before
    with pytest.raises(ProcessLookupError):
        os.kill(before, signal.SIGCONT)
