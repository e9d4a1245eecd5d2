"""The secure sum over a real network: keys, TLS, signatures, a killed worker; equal to the simulation to the last bit, whatever the masks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from server.queue import Entry
from server.runs.log import read_rounds
from shared_models.core.files import read_json, write_atomic
from shared_models.experiment import Experiment
from sim.deployment import Deployment, fedild, running_in
from sim.federation_demo import differences, simulate_same
from tests.client.sites import patch_experiment, patch_site

NAMES = ["alpha", "beta", "delta", "gamma"]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own folder: a worker's socket needs a short path.
    out = Path(tempfile.mkdtemp(prefix="fs-"))
    yield out
    shutil.rmtree(out)


def experiment() -> Experiment:
    plain = patch_experiment(rounds=3, quorum=3, deadline_s=180.0, retries=5)
    federation = {**plain.federation.model_dump(), "secure_sum": {"ahead": 2}}
    return Experiment.model_validate({**plain.model_dump(), "strategy": {"name": "fedavg"}, "federation": federation})


@pytest.mark.deployment
@pytest.mark.timeout(1200)
def test_a_deployed_secure_sum_equals_the_simulated_one(folder: Path) -> None:
    toml = folder / "experiment.toml"
    write_atomic(toml, tomli_w.dumps(experiment().model_dump(mode="json", exclude_none=True)).encode())
    with Deployment(folder, told=print) as deployment:
        for number, name in enumerate(NAMES):
            patch_site(folder / "sites", name, seed=number)
        deployment.found(NAMES)
        for name in NAMES:
            fedild("site", "approve", str(toml), "--folder", str(deployment.site(name)))
            deployment.start_site(name)
        for name in NAMES:
            deployment.wait_ready(deployment.site(name))
        killed: list[int] = []

        def kill_a_worker_that_has_keys(entry: Entry) -> None:
            pid = running_in(deployment.site("beta")).get("resident", {}).get("pid")
            if not killed and pid and list((deployment.site("beta") / "workspace" / "secure-sum").glob("*-*.json")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        run = deployment.order(toml, NAMES)
        deployment.follow(run, timeout_s=900.0, look=kill_a_worker_that_has_keys)
        there = deployment.server / "runs" / run
        rounds = read_rounds(there / "rounds.jsonl")
        assert killed
        if all(not line["missing"] for line in rounds):
            assert not differences(there, simulate_same(experiment(), deployment, NAMES, processes=1))
        for line in rounds:
            assert all((site["num_cases"], site["metrics"]) == (0, {}) for site in line["sites"].values())
            assert len([site for site in line["sites"].values() if site["refused"] is None]) >= 3
        assert list(read_json(deployment.site("alpha") / "peers.json")) == NAMES
        print([(line["round"], round(line["wall_s"], 1), line["attempt"], line["missing"]) for line in rounds])
