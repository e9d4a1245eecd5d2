"""`fedild federation-demo`: from empty folders to a finished run with its report, over a real network; then the same in the simulation.

The run is proved equal to the simulation's: same records of every round, same metrics, same bits of the final model.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from client.site import Site
from server.runs.log import read_rounds
from shared_models.core.errors import BadInput, FedILDError
from shared_models.core.files import read_json, read_state, write_atomic
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.run_record import verify
from sim.deployment import Deployment, fedild
from sim.federation import federate_in_pool
from sim.pool import Pool
from sim.settings import Phantoms, simulation_of

RUN_S = 1200.0
"""Seconds for a run of a minute: a machine may be busy with other things."""


def federation_demo(experiment: Experiment, out: Path, *, processes: int = 2, told: Callable[[str], None]) -> Path:
    """Run the demonstration in the new folder `out` and return the path of the run's report.

    Raises
    ------
    BadInput
        The folder is in use, or the experiment has no phantom hospitals.
    FedILDError
        A process failed, or the result differs from the simulation's.
    """
    out = out.resolve()
    if out.exists() and any(out.iterdir()):
        raise BadInput("the demonstration needs a new or empty folder", value=str(out), remedy="choose another --out")
    began = time.monotonic()

    def say(line: str) -> None:
        told(f"{time.monotonic() - began:6.1f} s  {line}")

    names = make_inboxes(experiment, out, processes=processes, told=say)
    toml = out / "experiment.toml"
    write_atomic(toml, tomli_w.dumps(experiment.for_sites().model_dump(mode="json", exclude_none=True)).encode())
    with Deployment(out, told=say) as deployment:
        deployment.found(names)
        for name in names:
            folder = str(deployment.site(name))
            say(f"{name}: prepare, approve, up")
            fedild("site", "prepare", "--experiment", str(toml), "--processes", str(processes), "--folder", folder)
            fedild("site", "approve", str(toml), "--folder", folder)
            deployment.start_site(name)
        for name in names:
            deployment.wait_ready(deployment.site(name))
        run = deployment.order(toml, names)
        deployment.follow(run, timeout_s=RUN_S)
        folder = deployment.server / "runs" / run
        say("simulating the same")
        simulated = simulate_same(experiment, deployment, names, processes=processes)
        if unequal := differences(folder, simulated):
            raise FedILDError("the deployed run must equal the simulated one", value=unequal)
        final = digest(read_state(folder / "final.safetensors"))
        if faults := verify(folder, public=(deployment.server / "secrets" / "signing.pub").read_text(encoding="ascii").strip()):
            raise FedILDError("the run's record must verify", value=faults)
        say("signed record verified")
        say(f"equal to the simulation: {experiment.federation.rounds} rounds, metrics, weights {final[:16]}")
    say("everything ended")
    return folder / "report.html"


def make_inboxes(experiment: Experiment, out: Path, *, processes: int, told: Callable[[str], None]) -> list[str]:
    """Make the training hospitals' images and tables in ``out/sites``, with a site TOML that points to them; return their names."""
    from sim.hospital.hospital import make_hospitals

    settings = simulation_of(experiment)
    if not isinstance(settings, Phantoms):
        raise BadInput("the demonstration needs phantom hospitals", value=experiment.name)
    presets = [preset for preset in settings.presets() if preset.name not in settings.held_out]
    told(f"making {sum(preset.patients for preset in presets)} patients of {len(presets)} hospitals")
    make_hospitals(presets, out / "sites", out / "truth", seed=experiment.seed, processes=processes)
    for preset in presets:
        write_atomic(out / "sites" / preset.name / "site.toml", f'[site]\nname = "{preset.name}"\n'.encode(), durable=False)
    return [preset.name for preset in presets]


def simulate_same(experiment: Experiment, deployment: Deployment, names: list[str], *, processes: int) -> Path:
    """Run the simulation on copies of what the sites have prepared and return its folder."""
    home = deployment.out / "simulation"
    sites = []
    for name in names:
        place = Site.load(deployment.site(name) / "site.toml")
        toml = f'[site]\nname = "{name}"\n'
        if place.site.patches is not None:
            toml += f"patches = {json.dumps(str(place.path(place.site.patches)))}\n"
        if place.workspace.exists():
            shutil.copytree(place.workspace, home / name / "workspace", ignore=shutil.ignore_patterns("steps", "residual", "*.jsonl"))
        write_atomic(home / name / "site.toml", toml.encode(), durable=False)
        sites.append(home / name / "site.toml")
    with Pool(processes, experiment=experiment.for_sites().to_json()) as pool:
        (home / "run").mkdir()
        federate_in_pool(experiment, sites, home / "run", pool)
    return home / "run"


def differences(one: Path, other: Path) -> list[str]:
    """Return in what two runs of one experiment differ: rounds, metrics, weights. Times may."""

    def rounds(folder: Path) -> list[dict[str, Any]]:
        return [{key: value for key, value in line.items() if key not in ("wall_s", "attempt")} for line in read_rounds(folder / "rounds.jsonl")]

    found = []
    if rounds(one) != rounds(other):
        found.append("rounds.jsonl")
    if read_json(one / "site_metrics.json") != read_json(other / "site_metrics.json"):
        found.append("site_metrics.json")
    if digest(read_state(one / "final.safetensors")) != digest(read_state(other / "final.safetensors")):
        found.append("final.safetensors")
    return found
