"""Run the deployed ServerApp and ClientApp on this machine: in warm processes (default) or on Flower's Ray engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.app import run_experiment
from server.runs.checkpoint import RoundState
from server.runs.draws import Pace, simulated_pace
from server.runs.rounds import RoundRecord
from shared_models.core.errors import Interrupted
from shared_models.experiment import Experiment
from shared_models.phases import rounds_of
from sim.pool import THREADS, Pool
from sim.progress import Progress
from sim.run import Run

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Nothing that we start reports home, looks for updates or installs packages."""

OnRound = Callable[[RoundRecord, RoundState], None]


def pace_of(experiment: Experiment) -> Pace:
    """Return the simulated clock of an experiment: how long each site takes for each round."""
    return simulated_pace(experiment.seed, float((experiment.simulation or {}).get("slowness", 1.0)))


def federate_in_pool(experiment: Experiment, sites: list[Path], folder: Path, pool: Pool, *, on_round: OnRound | None = None) -> RoundState:
    """Run or continue the federation in `folder` on the pool's warm processes.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    sites : list of Path
        Site TOMLs of the training hospitals.
    folder : Path
        Run folder; checkpoints there are continued.
    pool : Pool
        Warm processes.
    on_round : callable, optional
        Told after each round.
    """
    os.environ.update(OFFLINE)
    from sim.grid import PoolGrid

    if not (folder / "start.json").exists():
        pool.map("sim.tasks", "start_state", [(experiment.for_sites().to_json(), str(folder))])
    grid = PoolGrid(pool, [str(site) for site in sites])
    return run_experiment(grid, experiment, folder.resolve(), durable=False, on_round=on_round, pace=pace_of(experiment))


def federate_on_ray(experiment: Experiment, sites: list[Path], folder: Path, *, address: str | None = None, processes: int = 2) -> None:
    """Run the same apps on Flower's Ray engine, on this machine or on the cluster at `address`.

    Raises
    ------
    Interrupted
        The run did not reach its last round.
    """
    environment = OFFLINE | THREADS | {"FEDILD_SITES": json.dumps([str(site) for site in sites])}
    os.environ.update(environment)
    import ray
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from sim.apps import client_app

    # Flower starts Ray with an environment of its own and takes none of ours; it leaves a Ray alone that already runs.
    where: dict[str, Any] = {"address": address} if address else {"num_cpus": processes}
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ray.init(**where, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment | path})
    wrapper = ServerApp()

    @wrapper.main()
    def main(grid: Grid, context: Context) -> None:
        del context  # Flower's engine gives a simulated run no configuration
        run_experiment(grid, experiment, folder.resolve(), pace=pace_of(experiment))

    run_simulation(
        server_app=wrapper,
        client_app=client_app,
        num_supernodes=len(sites),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if not (folder / "final.safetensors").exists():
        raise Interrupted("a run on Ray must reach its last round", remedy="read the log above; continue with --resume")


def federate(run: Run, sites: list[Path], folder: Path, pool: Pool, progress: Progress) -> None:
    """Run or continue the federation over `sites` in `folder`, on the chosen backend."""
    if (folder / "final.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    step = progress.bar("federating")

    def told(record: RoundRecord, at: RoundState) -> None:
        del at
        step(record.round, rounds_of(run.experiment))

    if run.backend == "ray":
        if not (folder / "start.json").exists():
            pool.map("sim.tasks", "start_state", [(run.experiment.for_sites().to_json(), str(folder))])
        federate_on_ray(run.experiment, sites, folder, address=run.ray_address, processes=run.cores)
    else:
        federate_in_pool(run.experiment, sites, folder, pool, on_round=told)
