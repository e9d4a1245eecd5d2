"""What *works when* asks of generators: what they draw, at the hospitals that trained them, and what noise they take off unseen slices."""

from __future__ import annotations

import numpy as np

from client.selection import all_records
from client.site import Site
from client.training.gradient import network_of
from client.training.likeness import psnr_db
from client.training.records import Records
from shared_models.core.files import read_json, read_state
from sim.generation import level_errors
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran


def drawn(name: str, says: str, *, least: float | None = None, most: float | None = None) -> Criterion:
    """Ask a number of `memorisation_report` of a generator at every hospital that trained it: the worst of them must keep the bound."""

    def figure(ran: Ran) -> float | None:
        found = [report[name] for report in read_json(ran.folder / "generation.json").values()]
        if not found or None in found:
            return None
        return min(found) if least is not None else max(found)

    return Criterion(says, figure, least=least, most=most)


def _level(ran: Ran, which: int) -> float | None:
    return level_errors(read_json(ran.folder / "generation.json"))[which]


DRAWN = (
    Criterion("drawn slices: mean off that of all hospitals' slices, HU, worst class", lambda ran: _level(ran, 0), most=40.0),
    Criterion("drawn slices: SD off that of all hospitals' slices, share, worst class", lambda ran: _level(ran, 1), most=0.3),
    drawn("mean_error_hu", "drawn slices: mean off that of the hospital's own slices, HU, worst class and hospital"),
    drawn("pair_ssim", "drawn slices: similarity of two of a class, worst hospital", most=0.9),
    drawn("closest_hu", "drawn slices: least distance of one to a training slice, HU", least=1e-6),
    drawn("memory_ratio", "drawn slices: distance to training slices over that of held-out ones, worst hospital", least=0.8),
)
"""S01: statistics within 40 HU and 30 %, no collapse, no copy."""


def cleaner(least: float = 3.0, *, noise_hu: float = 100.0) -> Criterion:
    """Ask that the generator of a release takes noise off slices of unseen patients: its gain of PSNR against the clean twin, dB."""
    return Criterion(f"PSNR gain on slices with noise of {noise_hu:g} HU, dB", lambda ran: _gain_db(ran, noise_hu), least=least)


def _gain_db(ran: Ran, noise_hu: float) -> float:
    import torch

    clean = Records.join([all_records(Site.load(site), ran.experiment) for site in ran.held_out]).inputs
    low, high = ran.experiment.inputs.window_hu
    noise = np.random.default_rng([ran.experiment.seed, 0x9015]).normal(0, noise_hu / (high - low), clean.shape)
    noisy = (clean + noise * (clean > 0)).astype(np.float32)  # what is blanked outside the lungs has no noise
    network = network_of(ran.experiment, read_state(ran.folder / "federation" / "final.safetensors"))
    with torch.inference_mode():
        cleaned = network.enhance(torch.from_numpy(noisy)).numpy()  # type: ignore[operator]
    return psnr_db(cleaned, clean) - psnr_db(noisy, clean)
