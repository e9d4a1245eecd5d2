"""What privacy costs: a DP step over a plain step at the same logical batch, time and memory, for each network family.

Both steps run in turns in one process on one thread; a ratio is taken within each turn. Seconds of the thread are shown beside seconds of the
clock: on a shared machine they are the steadier figure. Memory is the largest resident set of a process of its own for each arm.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.timing import against, heading, ratios, spread, table

GOAL = 2.0
FAMILIES = {
    "mil_cnn": ({"dropout": 0.0}, (12, 64, 64), 8),
    "linear": ({}, (13,), 32),
    "patch_cnn": ({}, (1, 31, 31), 32),
    "resnet18": ({"width": 16}, (1, 32, 48, 48), 8),
    "densenet121": ({"growth_rate": 16, "first_features": 32}, (1, 32, 48, 48), 8),
}
"""Knobs, one patient's input, and the logical batch. mil_cnn is the default model at its default size."""
ARMS = ("plain", "auto", "loop", "functorch")


def steps_of(name: str) -> dict[str, Callable[[], None]]:
    """Return one training step of each arm, on the same network and patients."""
    import torch

    from client.training.optimisers import AdamW
    from client.training.private import PrivateGradient, learner_of
    from client.training.records import Records
    from client.training.units import units_of
    from shared_models.core.randomness import SecretRandom
    from shared_models.experiment import Experiment

    torch.set_num_threads(1)
    knobs, shape, batch = FAMILIES[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (batch, *shape)).astype(np.float32)
    records = Records(x * 300 - 1000 if name == "patch_cnn" else x, rng.integers(0, 5, batch), tuple(map(str, range(batch))))
    columns = {"inputs": {"columns": [f"column {number}" for number in range(shape[0])]}} if name == "linear" else {}
    base = {"name": "bench", **columns, "data": {"classes": list("abcde")}, "model": {"name": name, **knobs}, "train": {"batch": batch}}
    private = {
        arm: Experiment.model_validate(base | {"privacy": {"unit": "patient", "noise_multiplier": 1.0, "grad_sample": arm}}) for arm in ARMS[1:]
    }
    learner = learner_of(private["auto"])
    flat, optimiser = learner.flat, AdamW(1e-4, 0.9, 0.999, 1e-8, 0.01)
    flat.model.train()
    labels = torch.from_numpy(records.labels)

    def plain() -> None:
        flat.backward(learner.loss_of(flat.model(torch.from_numpy(records.inputs)), labels).mean())
        optimiser.step(flat.weights, flat.gradient, 1.0)

    def step(gradient: PrivateGradient) -> Callable[[], None]:
        def take() -> None:
            gradient.draw(flat.gradient)
            optimiser.step(flat.weights, flat.gradient, 1.0)

        return take

    made = {}
    for arm, experiment in private.items():
        generator = torch.Generator().manual_seed(0)
        made[arm] = step(
            PrivateGradient(experiment, learner, records, units_of(records, "patient"), q=1.0, generator=generator, secret=SecretRandom())
        )
    return {"plain": plain, **made}


def measure(name: str, turns: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds of clock and thread of every arm in every turn."""
    steps = steps_of(name)
    times: dict[str, dict[str, list[float]]] = {arm: {"wall": [], "thread": []} for arm in steps}
    for turn in range(turns + 1):
        for arm, step in steps.items():
            wall, thread = time.perf_counter(), time.thread_time()
            step()
            if turn:
                times[arm]["wall"].append(time.perf_counter() - wall)
                times[arm]["thread"].append(time.thread_time() - thread)
    return times


def peak_mb(name: str, arm: str) -> float:
    """Return the largest resident set of a process that takes three steps of one arm."""
    command = [sys.executable, "-m", "bench.privacy", "--peak", name, arm]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", choices=FAMILIES, action="append")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        name, arm = chosen.peak
        step = steps_of(name)[arm]
        for _ in range(3):
            step()
        # Not getrusage: what it calls the largest resident set begins with that of the process it was forked from.
        print(next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
        return
    heading("A step under differential privacy over a plain step")
    for name in chosen.only or FAMILIES:
        times = measure(name, chosen.turns)
        plain, plain_mb, private_mb = times["plain"], peak_mb(name, "plain"), peak_mb(name, "auto")
        rows = []
        for arm in ARMS[1:]:
            wall, thread = (ratios(times[arm][clock], plain[clock]) for clock in ("wall", "thread"))
            own = arm == "auto"
            memory = f"{private_mb:.0f} / {plain_mb:.0f} = {private_mb / plain_mb:.2f}" if own else ""
            rows.append((f"{name}, {arm}", FAMILIES[name][2], spread(wall), spread(thread), against(GOAL, thread) if own else "", memory))
        table(("network, way", "batch", "clock", "thread", "goal (thread)", "peak MB"), rows)


if __name__ == "__main__":
    main()
