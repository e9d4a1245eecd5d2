"""Strategies that keep something at the sites, over a real network: control variates through a killed worker, personal models that stay."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.training.personal_models import beside
from server.queue import Entry
from server.runs.log import read_rounds
from shared_models.core.files import read_state, write_atomic
from shared_models.core.state import digest, size_bytes
from shared_models.experiment import Experiment
from sim.deployment import Deployment, fedild, running_in
from sim.federation_demo import differences, simulate_same
from tests.client.sites import patch_experiment, patch_site

NAMES = ["alpha", "beta", "gamma"]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="fk-"))
    yield out
    shutil.rmtree(out)


def experiment_of(name: str) -> Experiment:
    plain = patch_experiment(rounds=4, quorum=3, deadline_s=180.0, retries=5).model_dump()
    train = {**plain["train"], "optimiser": {"name": "sgd", "lr": 0.05}, "steps": 30}
    return Experiment.model_validate({**plain, "strategy": {"name": name}, "train": train, "name": name})


@pytest.mark.deployment
@pytest.mark.timeout(1800)
def test_variates_survive_a_killed_worker_and_personal_models_stay(folder: Path) -> None:
    with Deployment(folder, told=print) as deployment:
        for number, name in enumerate(NAMES):
            patch_site(folder / "sites", name, seed=number)
        deployment.found(NAMES)
        tomls = {name: folder / f"{name}.toml" for name in ("scaffold", "apfl")}
        for which, toml in tomls.items():
            write_atomic(toml, tomli_w.dumps(experiment_of(which).model_dump(mode="json", exclude_none=True)).encode())
            for name in NAMES:
                fedild("site", "approve", str(toml), "--folder", str(deployment.site(name)))
        for name in NAMES:
            deployment.start_site(name)
        for name in NAMES:
            deployment.wait_ready(deployment.site(name))
        killed: list[int] = []

        def kill_a_worker_that_has_variates(entry: Entry) -> None:
            del entry
            pid = running_in(deployment.site("beta")).get("resident", {}).get("pid")
            if not killed and pid and list((deployment.site("beta") / "workspace" / "strategy").glob("*-000002.safetensors")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        run = deployment.order(tomls["scaffold"], NAMES)
        deployment.follow(run, timeout_s=900.0, look=kill_a_worker_that_has_variates)
        there = deployment.server / "runs" / run
        assert killed
        assert not any(line["missing"] for line in read_rounds(there / "rounds.jsonl"))
        assert not differences(there, simulate_same(experiment_of("scaffold"), deployment, NAMES, processes=1))

        run = deployment.order(tomls["apfl"], NAMES)
        deployment.follow(run, timeout_s=900.0)
        final = read_state(deployment.server / "runs" / run / "final.safetensors")
        owns: list[Any] = []
        for name in NAMES:
            workspace = deployment.site(name) / "workspace"
            owns.append(digest(beside(workspace, final)))
            left = [json.loads(line) for line in (workspace / "what-left.jsonl").read_text().splitlines()]
            sizes = {line["bytes"] for line in left if line["run"] == run}
            assert sizes == {size_bytes(final), 0}  # one model a round, and none with the judgement
        assert len({digest(final), *owns}) == 1 + len(NAMES)
