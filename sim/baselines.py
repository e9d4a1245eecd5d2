"""What the federation is compared with: each hospital alone, and all hospitals pooled in one place (which no hospital would allow)."""

from __future__ import annotations

from pathlib import Path

from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from sim.pool import Pool
from sim.progress import Progress

POOLED = "pooled"


def train_baselines(experiment: Experiment, sites: list[Path], out: Path, pool: Pool, progress: Progress) -> dict[str, int]:
    """Train the pooled and the local-only models from the federation's initial state; return the gradient steps of each.

    The same rounds, schedule and seeds: a hospital alone takes as many steps as it takes in the federation, the pooled model as many as
    all hospitals together.
    """
    folder = out / "baselines"
    note = folder / "steps.json"
    if note.exists():
        return read_json(note)
    folder.mkdir(parents=True, exist_ok=True)
    text, start = experiment.for_sites().to_json(), str(out / "federation" / "start.safetensors")
    runs = [(POOLED, [str(site) for site in sites])] + [(site.parent.name, [str(site)]) for site in sites]
    calls = [(text, members, start, str(folder / f"{name}.safetensors"), name) for name, members in runs]
    step, done = progress.bar("baselines"), 0

    def told(number: int, answer: int) -> None:
        nonlocal done
        del number, answer
        done += 1
        step(done, len(calls))

    steps = dict(zip([name for name, _ in runs], pool.map("sim.tasks", "train_alone", calls, on_done=told), strict=True))
    write_json(note, steps)
    return steps
