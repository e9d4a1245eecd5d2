"""What a site finds out about a generator before anybody may rely on it: are its slices right, are they varied, are they copies of patients.

Everything is computed where the patients are; what leaves are a few rounded numbers, by the gate. No drawn slice does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from client.privacy.gate import Measured
from client.training.gradient import warm_model
from client.training.likeness import frechet_distance, level_and_spread, nearest, pairwise_ssim
from client.training.records import Records
from shared_models.core.arrays import State
from shared_models.core.files import write_json
from shared_models.experiment import Experiment
from shared_models.phases import trained

SAMPLES = 64
"""Slices that are drawn, as even over the classes present as can be."""
FEATURES_SEED = 20_160_107
"""Of the fixed random convolutions, so that all sites and runs measure with one ruler; no network has to be fetched for it."""


def drawn_slices(experiment: Experiment, state: State, labels: np.ndarray, shape: tuple[int, int], *, seed: int) -> np.ndarray:
    """Return a drawn slice for each label, shape (n, y, x), in 0..1; equal seeds draw equal slices."""
    with torch.random.fork_rng(devices=[]):
        network = _drawing(experiment, state)  # building it the first time draws weights, too
        torch.manual_seed(seed % (1 << 63))
        device = next(network.parameters()).device
        with torch.inference_mode():
            return network.draw(torch.from_numpy(labels).to(device), 1, shape).squeeze(1).float().cpu().numpy()


def memorisation_report(experiment: Experiment, state: State, training: Records, held_out: Records, *, seed: int) -> dict[str, Any]:
    """Compare slices that the generator of `state` draws with the site's own.

    Parameters
    ----------
    experiment : Experiment
        Of a model with a generator.
    state : State
        Its weights.
    training, held_out : Records
        What the generator may have seen, and what it has not: patients (n, k, y, x) in 0..1.
    seed : int
        Of the drawing.

    Returns
    -------
    dict
        ``classes``: mean and SD in HU of drawn and of real slices, by class; ``mean_error_hu`` and ``sd_error`` (share), the largest of the
        classes; ``pair_ssim`` and ``real_pair_ssim``, mean similarity of two slices of one class; ``nearest_hu`` and ``held_out_nearest_hu``,
        the median distance of a drawn and of a held-out slice to the nearest training slice, ``closest_hu`` the least of a drawn one;
        ``memory_ratio``, the first over the second: well below 1, the generator repeats patients; ``frechet`` and ``held_out_frechet``.
        None where nothing is held out.
    """
    low, high = experiment.inputs.window_hu
    per_hu = high - low
    slices, of_slices = _slices_of(training)
    others, _ = _slices_of(held_out)
    present = np.unique(of_slices)
    labels = np.sort(np.resize(present, SAMPLES)).astype(np.int64)
    made = drawn_slices(experiment, state, labels, (slices.shape[1], slices.shape[2]), seed=seed)
    classes, alike, real_alike = {}, [], []
    for number in present:
        drawn, real = made[labels == number], slices[of_slices == number]
        (mean, sd), (real_mean, real_sd) = level_and_spread(drawn), level_and_spread(real)
        classes[experiment.data.classes[number]] = {
            "mean_hu": low + per_hu * mean,
            "real_mean_hu": low + per_hu * real_mean,
            "sd_hu": per_hu * sd,
            "real_sd_hu": per_hu * real_sd,
        }
        alike += [pairwise_ssim(drawn)] if len(drawn) > 1 else []
        real_alike += [pairwise_ssim(real[:: -(-len(real) // len(drawn))])] if len(real) > 1 else []
    away, held_away = per_hu * nearest(made, slices), per_hu * nearest(others, slices)
    looked, looked_real, looked_held = features_of(made), features_of(slices), features_of(others)
    return {
        "samples": len(made),
        "classes": classes,
        "mean_error_hu": max(abs(c["mean_hu"] - c["real_mean_hu"]) for c in classes.values()),
        "sd_error": max(abs(c["sd_hu"] / max(c["real_sd_hu"], 1e-3) - 1) for c in classes.values()),
        "pair_ssim": float(np.mean(alike)) if alike else None,
        "real_pair_ssim": float(np.mean(real_alike)) if real_alike else None,
        "nearest_hu": float(np.median(away)),
        "closest_hu": float(away.min()),
        "held_out_nearest_hu": float(np.median(held_away)) if len(held_away) else None,
        "memory_ratio": float(np.median(away) / max(float(np.median(held_away)), 1e-3)) if len(held_away) else None,
        "frechet": frechet_distance(looked, looked_real),
        "held_out_frechet": frechet_distance(looked_held, looked_real) if len(others) > 1 else None,
    }


def generation_metrics(experiment: Experiment, state: State, training: Records, held_out: Records, *, seed: int, report: Path) -> dict[str, Measured]:
    """Write the site's own report to `report`, for its eyes alone, and return the numbers of it that the gate may let out."""
    found = memorisation_report(experiment, state, training, held_out, seed=seed)
    report.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(report, found, mode=0o600)
    smallest = int(np.bincount(training.labels)[np.unique(training.labels)].min())
    by_class = {name: Measured(found[name], training.patients, smallest) for name in ("mean_error_hu", "sd_error", "pair_ssim")}
    whole = {name: Measured(found[name], min(training.patients, held_out.patients)) for name in ("memory_ratio", "frechet")}
    return {f"drawn_{name}": value for name, value in (by_class | whole).items()}


def features_of(slices: np.ndarray) -> np.ndarray:
    """Return what fixed random convolutions see of slices (n, y, x) in 0..1, shape (n, 64): means and spreads of their last maps."""
    if not len(slices):
        return np.zeros((0, 64))
    generator = torch.Generator().manual_seed(FEATURES_SEED)
    maps = torch.from_numpy(np.ascontiguousarray(slices, np.float32))[:, None] * 2 - 1
    with torch.inference_mode():
        for before, after in ((1, 8), (8, 16), (16, 32)):
            weight = torch.randn((after, before, 3, 3), generator=generator) * (2 / (9 * before)) ** 0.5
            maps = torch.relu(nn.functional.conv2d(maps, weight, stride=2, padding=1))
        return torch.cat([maps.mean((2, 3)), maps.flatten(2).std(2, correction=0)], dim=1).double().numpy()


def _slices_of(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return single slices (n, y, x) of bags, and the class of each."""
    per = records.inputs.shape[1] if records.inputs.ndim == 4 else 1
    return records.inputs.reshape(-1, *records.inputs.shape[-2:]), np.repeat(records.labels, per)


def _drawing(experiment: Experiment, state: State) -> Any:
    flat = warm_model(experiment).flat
    flat.load(trained(state))
    return flat.model.eval()
