"""Scanned phantoms whose lungs are known to the voxel, and small segmentation networks trained on their slices."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from client.cases.volume import Volume
from client.segmentation.network import Normalisation, normalised, save_weights
from shared_models.core.choices import Choice, pick
from shared_models.networks.segmentation import SEGMENTATION_NETWORKS
from sim.phantom.patient import make_phantom
from sim.scanner.scanner import SCANNERS, at_scan, scan

PIXEL_MM = 4.4
STEPS = {"unet": 90}
"""Steps of training; 50 for the others, which need only show that they learn."""
SMALL = {"unet": [8, 16, 24], "unet_plus_plus": [8, 12, 16], "hrnet": [8, 12, 16], "pix2pix": [8, 16, 24]}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@functools.cache
def study(klass: str = "normal", *, scanner: str = "A", body: int = 1, consolidation: float | None = None) -> tuple[Volume, np.ndarray, np.ndarray]:
    """A scanned phantom, feet first; its true lungs (1 right, 2 left); its pattern labels."""
    phantom = make_phantom(klass, seed=body, grid_mm=3.0, body=body, extents=None if consolidation is None else {"consolidation": consolidation})
    made = scan(phantom, SCANNERS[scanner].at(2.5), seed=body)
    lung, labels = (np.ascontiguousarray(at_scan(mask, phantom, made)[::-1]) for mask in (phantom.lung, phantom.labels))
    hu = np.ascontiguousarray(made.hu[::-1], dtype=np.float32)
    for array in (hu, lung, labels):
        array.flags.writeable = False
    return Volume(hu, made.spacing_mm), lung, labels


def normalisation(name: str) -> Normalisation:
    return Normalisation(network=Choice.model_validate({"name": name, "widths": SMALL[name]}), pixel_mm=PIXEL_MM)


@functools.cache
def slices(scanner: str, body: int, every: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices as a network takes them, (n, 1, y, x), and where the lung is, (n, y, x)."""
    volume, lung, _ = study(scanner=scanner, body=body)
    x = normalised(volume.hu[::every], volume.spacing_mm, normalisation("unet"))
    share = Normalisation(network=Choice(name="unet"), pixel_mm=PIXEL_MM, window_hu=(0.0, 1.0))
    y = normalised((lung[::every] > 0).astype(np.float32), volume.spacing_mm, share) > 0.5
    return torch.from_numpy(x[:, None]), torch.from_numpy(y.astype(np.int64))


@dataclass(frozen=True)
class Trained:
    network: nn.Module
    losses: list[float]
    dice_before: float
    dice_after: float


def held_out_dice(network: nn.Module) -> float:
    """On slices of a body that the network was not trained on."""
    x, y = slices("C", 4)
    with torch.inference_mode():
        return dice(network(x).argmax(1).numpy() > 0, y.numpy() > 0)


def fresh(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return pick(SEGMENTATION_NETWORKS, normalisation(name).network, kind="network", get=lambda spec: spec.build)(1, 2)


@functools.cache
def trained(name: str) -> Trained:
    """A small network after some steps on the slices of three phantoms from three scanners."""
    parts, steps = [slices("A", 1), slices("B", 2), slices("C", 3)], STEPS.get(name, 50)
    generator, network = torch.Generator().manual_seed(1), fresh(name)
    before = held_out_dice(network.eval())
    optimiser, losses = torch.optim.AdamW(network.train().parameters(), lr=1e-2), []
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    for number in range(steps):
        x, y = parts[number % 3]
        chosen = torch.randperm(len(x), generator=generator)[:6]
        loss = SEGMENTATION_NETWORKS[name].loss(network, x[chosen], y[chosen]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return Trained(network.eval(), losses, before, held_out_dice(network))


def weights_file(folder: Path, name: str = "unet") -> tuple[Path, str]:
    """The trained network as a weights file, and its digest."""
    state = {key: value.numpy() for key, value in trained(name).network.state_dict().items()}
    path = folder / f"{name}.safetensors"
    return path, save_weights(path, state, normalisation(name))
