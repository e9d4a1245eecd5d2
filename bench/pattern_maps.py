"""The published patch network as a map of the lung, on phantoms: patches by pattern at three sites, then a window slides over unseen patients.

python -m bench.pattern_maps [--patients N] [--rounds N] [--seeds N] [--smoke]

Patches are cut where one planted pattern fills most of the window's middle; a patient is at one site, and those of the fourth, on another scanner,
are never trained on. Told are the macro F1 of their patches, and for each planted pattern the share of its voxels that the sliding window calls it.
``--smoke`` runs two tiny patients a site for one round: does it run at all?
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bench.timing import heading, table
from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.sliding import sliding_map
from client.training import PREDICTORS
from client.training.records import Records
from shared_models.catalogue import spec_of
from shared_models.experiment import Experiment
from shared_models.metrics import score
from shared_models.patterns import PATTERNS
from sim.hostile import federate_with
from sim.phantom.patient import make_phantom
from sim.scanner.scanner import SCANNERS, at_scan, scan

NAMES = ("normal", "ggo", "reticulation", "honeycombing", "consolidation", "emphysema", "ggo_reticulation")
"""Patterns that lie in patches of some size in phantoms; micronodules do not."""
DISEASES = ("normal", "UIP", "NSIP", "OP", "CPFE", "fibrotic_NSIP")
"""Every one of them shows a pattern that the others lack, or have little of: give each site as many patients or more."""
SITES = {"alpha": "A", "beta": "B", "gamma": "C", "delta": "E"}
"""Each site's scanner; the last trains nothing."""
PATCH_PX = 13
PURE = 0.7
"""Share of the middle of a patch that is one pattern."""
PER_PATTERN = 24
"""Most patches of one pattern that a patient gives."""


def study(disease: str, scanner: str, seed: int, grid_mm: float, resolution: float) -> tuple[Prepared, np.ndarray]:
    """Return a patient's study with its true lung mask, and the planted pattern of each voxel."""
    phantom = make_phantom(disease, seed=seed, grid_mm=grid_mm)
    scanned = scan(phantom, SCANNERS[scanner].at(resolution), seed=seed)
    lung, labels = (np.ascontiguousarray(at_scan(what, phantom, scanned)) for what in (phantom.lung, phantom.labels))
    return Prepared(Volume(np.asarray(scanned.hu, np.float32), scanned.spacing_mm), (lung > 0).astype(np.uint8)), labels


def patches_of(prepared: Prepared, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return patches (n, 1, y, x) in HU whose middle is one pattern, and its number in `NAMES`."""
    mask = prepared.mask
    if mask is None:
        raise SystemExit("a phantom has lungs")
    half, middle = PATCH_PX // 2, PATCH_PX // 4
    found: dict[int, list[np.ndarray]] = {number: [] for number in range(len(NAMES))}
    places = np.argwhere(mask[:, half:-half, half:-half] > 0) + [0, half, half]
    for z, y, x in places[rng.permutation(len(places))[:20000]]:
        around = labels[z, y - middle : y + middle + 1, x - middle : x + middle + 1]
        inside = mask[z, y - middle : y + middle + 1, x - middle : x + middle + 1] > 0
        name = next((name for name in NAMES if PATTERNS[name] == labels[z, y, x]), None)
        if name is None or (around[inside] == labels[z, y, x]).sum() < PURE * around.size or len(found[NAMES.index(name)]) >= PER_PATTERN:
            continue
        found[NAMES.index(name)].append(prepared.volume.hu[z, y - half : y + half + 1, x - half : x + half + 1])
    numbers = np.repeat(list(found), [len(cut) for cut in found.values()])
    return np.array([patch for cut in found.values() for patch in cut], np.float32).reshape(-1, 1, PATCH_PX, PATCH_PX), numbers


def experiment_of(rounds: int, seed: int) -> Experiment:
    """Return the federation of the published network, narrow."""
    return Experiment.model_validate(
        {
            "name": "pattern_maps",
            "seed": seed,
            "data": {"kind": "patches", "classes": NAMES},
            "model": {"name": "ild_cnn", "k": 2, "dropout": 0.2},
            "train": {
                "epochs": 2,
                "batch": 32,
                "class_weights": "prior",
                "optimiser": {"name": "adamw", "lr": 3e-3},
                "augment": [{"name": "quarter_turns"}, {"name": "flip"}],
            },
            "federation": {"rounds": rounds, "quorum": 3},
        }
    )


def measure(patients: int, rounds: int, seeds: int, grid_mm: float, resolution: float) -> None:
    """Make patients, federate, and print how unseen patches and unseen lungs are told."""
    made = {
        site: [study(DISEASES[number % len(DISEASES)], scanner, 100 * place + number, grid_mm, resolution) for number in range(patients)]
        for place, (site, scanner) in enumerate(SITES.items())
    }
    *training, away = SITES
    rows, scores = {name: [] for name in NAMES}, []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        cut = {site: [patches_of(prepared, labels, rng) for prepared, labels in of] for site, of in made.items()}
        parts = {site: records_of(cut[site], site) for site in SITES}
        experiment = experiment_of(rounds, seed)
        with tempfile.TemporaryDirectory(prefix="fedild-bench-") as folder:
            state, _ = federate_with(experiment, {site: parts[site] for site in training}, {}, Path(folder))
        told = PREDICTORS[spec_of(experiment.model).fit](experiment, state, parts[away])
        scores.append(score(parts[away].labels, told, NAMES, metrics=("macro_f1",), bootstrap=0)["macro_f1"]["value"])
        maps = [(sliding_map(experiment, state, prepared, patch_px=PATCH_PX, step_px=3), labels) for prepared, labels in made[away]]
        for number, name in enumerate(NAMES):
            there = sum(int(((labels == PATTERNS[name]) & (found < 255)).sum()) for found, labels in maps)
            right = sum(int(((labels == PATTERNS[name]) & (found == number)).sum()) for found, labels in maps)
            called = sum(int((found == number).sum()) for found, _ in maps)
            rows[name].append((right / there if there else np.nan, right / called if called else np.nan, there))
    heading(f"ild_cnn as a sliding window, {len(training)} sites of {patients} phantoms, {patients} unseen ones on another scanner, {seeds} seeds")
    print(f"patches of unseen patients: macro F1 {np.mean(scores):.3f} ({min(scores):.3f} - {max(scores):.3f})")
    lines = [[name, *(f"{np.mean(values):.3f}" for values in list(zip(*of, strict=True))[:2]), f"{of[0][2]:,}"] for name, of in rows.items()]
    table(["planted", "called so", "so planted, of what is called so", "voxels"], lines)


def records_of(cut: list[tuple[np.ndarray, np.ndarray]], site: str) -> Records:
    """Return the patches of a site's patients as records under their patients' names."""
    names = tuple(f"{site}{number}" for number, (patches, _) in enumerate(cut) for _ in patches)
    return Records(np.concatenate([patches for patches, _ in cut]), np.concatenate([numbers for _, numbers in cut]), names)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.pattern_maps", description=str(__doc__).splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        measure(2, 1, 1, 6.0, 5.0)
        return
    measure(options.patients, options.rounds, options.seeds, 2.5, 3.0)


if __name__ == "__main__":
    main()
