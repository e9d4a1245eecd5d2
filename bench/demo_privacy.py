"""What privacy costs on the demo's phantoms: macro AUROC on the held-out hospital without noise and at epsilon 8, 4 and 1.

python -m bench.demo_privacy [--seeds 1] [--out FOLDER]

Each run is `fedild simulate fibrosis_private` with the noise that `fedild privacy plan` finds for a hospital's training patients; the phantom
hospitals of a seed are made once. Phantoms: these figures say nothing about patients.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from bench.seeds import run
from bench.timing import table
from client.privacy.plan import plan
from shared_models.core.files import write_atomic
from sim.experiments import find

EXPERIMENT = "fibrosis_private"
EPSILONS = (None, 8.0, 4.0, 1.0)
SMALLEST = 57
"""Training patients of the smallest hospital: 72 without a fifth for validation."""
SHARED = ("hospitals", "truth")


def settings_of(epsilon: float | None, seed: int) -> tuple[float | None, list[str]]:
    """Return the noise multiplier and the overrides of a run."""
    if epsilon is None:
        return None, ['privacy.unit="none"', "evaluation.bootstrap=0"]
    sigma = plan(find(EXPERIMENT, [f"seed={seed}"]), SMALLEST, target=epsilon).sigma
    return sigma, [f"privacy.noise_multiplier={sigma}", "evaluation.bootstrap=0"]


def share(first: Path, out: Path, seed: int, settings: list[str]) -> None:
    """Give a run the phantoms of the first run of its seed, as if it had been interrupted after making them."""
    if out.exists() or not first.exists():
        return
    for name in SHARED:
        shutil.copytree(first / name, out / name, ignore=shutil.ignore_patterns("ledger*", "training"))
    write_atomic(out / "experiment.json", find(EXPERIMENT, [*settings, f"seed={seed}"]).to_json().encode())


def main() -> None:
    """Run the grid and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo_privacy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out, lines = options.out or Path(tempfile.mkdtemp()), []
    for epsilon in EPSILONS:
        found, alone, sigma = [], [], None
        for seed in range(options.seeds):
            sigma, settings = settings_of(epsilon, seed)
            here = out / f"{epsilon or 'none'}-{seed}"
            share(out / f"none-{seed}", here, seed, settings)
            metrics = run(EXPERIMENT, seed, here, settings)
            found.append(metrics["federated"]["held_out"]["auroc_macro"]["value"])
            alone.append(statistics.mean(one["held_out"]["auroc_macro"]["value"] for one in metrics["local_only"].values()))
        spread = f"{statistics.mean(found):.3f} ({min(found):.3f}-{max(found):.3f})"
        lines.append(
            ["none" if epsilon is None else f"{epsilon:g}", "-" if sigma is None else f"{sigma:.2f}", spread, f"{statistics.mean(alone):.3f}"]
        )
    delta = find(EXPERIMENT, []).privacy.delta
    names = [
        f"epsilon at delta {delta:g}",
        "noise multiplier",
        f"held-out macro AUROC, {options.seeds} seed(s) (range)",
        "mean local-only, no privacy",
    ]
    table(names, lines)


if __name__ == "__main__":
    main()
