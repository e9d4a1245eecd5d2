"""What a GPU makes of each system's full size: seconds of a step, peak memory, mixed over full precision; and sites that share one GPU.

python -m bench.gpu [--only NAMES] [--steps N] [--no-federation] [--smoke]

A step is one batch of the recipe's ``_base`` size through the site's own training loop, on random images: what it costs, not what it learns. Its
seconds are those by which a round of twice the steps takes longer. Memory is what PyTorch held at most. The federated run is that of three phantom
hospitals whose processes share the card. Refused where PyTorch sees no CUDA device. ``--smoke`` takes a step of one tiny recipe on the
processor: does it run at all?
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.timing import heading, table
from client.training import FITTERS
from client.training.device import training_on
from client.training.records import Records
from client.training.rule import Plain
from shared_models.catalogue import initial_state, inputs_of, spec_of
from shared_models.experiment import Experiment
from shared_models.patterns import NOT_ANNOTATED
from sim.check import load_checked
from sim.zoo.systems import recipes

SHARED = "attention_cnn"
"""Recipe of the federated run."""
PRECISIONS = ("full", "mixed")


def networks() -> list[str]:
    """Return the systems with a network: what is fitted by sums or trees has no step on a GPU."""
    return [name for name in recipes() if spec_of(load_checked(name, []).model).fit in ("gradient", "adversarial")]


def records_of(experiment: Experiment, count: int) -> Records:
    """Return records of random numbers in the shape that the experiment's network reads, with targets where it learns them."""
    spec, inputs, rng = spec_of(experiment.model), experiment.inputs, np.random.default_rng(0)
    shapes = {"volume": (1, *inputs.shape_zyx), "patch": (1, 31, 31), "slices": (inputs.slices, inputs.size, inputs.size)}
    images = rng.random((count, *((inputs_of(experiment),) if spec.takes == "table" else shapes[spec.takes])), np.float32)
    classes, target, targets = len(experiment.data.classes), experiment.data.target, None
    if target == "segmentation":
        targets = rng.integers(0, classes, images.shape).astype(np.uint8)
        targets[:, :, :2] = NOT_ANNOTATED
    elif target == "findings":
        targets = rng.integers(0, 2, (count, classes)).astype(np.float32)
    labels = np.zeros(count, np.int64) if target != "diagnosis" else np.arange(count) % classes
    times = rng.uniform(0.5, 5, count) if target == "survival" else None
    return Records(images, labels, tuple(map(str, range(count))), targets=targets, times=times)


def step_of(experiment: Experiment, precision: str, device: str, steps: int) -> tuple[float, float]:
    """Return seconds of a step and the largest memory in MB (NaN on the processor): the difference of a long and a short round."""
    train = experiment.train.model_copy(update={"precision": precision, "epochs": 1})
    records = records_of(experiment, max(train.batch, 2 * len(experiment.data.classes)))
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=len(experiment.data.classes), seed=0)
    fit, seconds = FITTERS[spec_of(experiment.model).fit], []
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with training_on(device):
        for count in (1, steps, 2 * steps):  # the first round only warms up
            chosen = experiment.model_copy(update={"train": train.model_copy(update={"steps": count})})
            began = time.perf_counter()
            fit(chosen, state, records, rule=Plain(), factor=1.0, seed=0)
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    return (seconds[2] - seconds[1]) / steps, torch.cuda.max_memory_allocated() / 1e6 if cuda else float("nan")


def measure_steps(names: list[str], device: str, steps: int, size: str) -> None:
    """Print a line for each system and precision; one that fails is told and stops nothing."""
    heading(f"one step at the size {size or 'tiny'}, {device}, {torch.cuda.get_device_name() if device.startswith('cuda') else 'processor'}")
    rows = []
    for name in names:
        experiment = load_checked(name + size, [])
        try:
            found = [step_of(experiment, precision, device, steps) for precision in PRECISIONS]
        except Exception as error:  # out of memory, or weights that are not here
            rows.append([name, experiment.train.batch, *[""] * 5, " ".join(str(error).split())[:70]])
            continue
        (full, mixed), (held, held_mixed) = zip(*found, strict=True)
        ratio = f"{full / mixed:.2f}" if min(full, mixed) > 0 else ""
        rows.append([name, experiment.train.batch, f"{1000 * full:.1f}", f"{1000 * mixed:.1f}", ratio, f"{held:.0f}", f"{held_mixed:.0f}", ""])
    table(["system", "batch", "ms a step", "mixed", "full / mixed", "peak MB", "mixed", ""], rows)


def measure_shared(device: str) -> None:
    """Print how long a federation of three hospitals takes whose processes share the GPU, and what the card held at most."""
    heading(f"{SHARED}: three phantom hospitals on one shared GPU, and on the processor")
    rows = []
    for where in (device, "cpu"):
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            hidden = {} if where != "cpu" else {"CUDA_VISIBLE_DEVICES": ""}
            command = [sys.executable, "-m", "sim.cli", "simulate", SHARED, "--out", str(Path(folder) / "run"), "--processes", "3", "--quiet"]
            free, began = [], time.perf_counter()
            run = subprocess.Popen(command, env={**os.environ, **hidden})
            while run.poll() is None:
                free.append(torch.cuda.mem_get_info()[0])
                time.sleep(0.2)
            if run.returncode:
                raise SystemExit(f"the federated run failed with exit code {run.returncode}")
            held = f"{(max(free) - min(free)) / 1e6:.0f}" if where != "cpu" else ""
            rows.append([where, f"{time.perf_counter() - began:.0f}", held])
    table(["where", "seconds, hospitals made and judged", "card's memory, MB"], rows)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-federation", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        measure_steps([SHARED], "cpu", 1, "")
        return
    if not torch.cuda.is_available():
        raise SystemExit("E_DEVICE: this bench needs a CUDA device and PyTorch sees none; docs/gpu.md says how to install the CUDA build")
    measure_steps(options.only.split(",") if options.only else networks(), options.device, options.steps, "_base")
    if not options.no_federation:
        measure_shared(options.device)


if __name__ == "__main__":
    main()
