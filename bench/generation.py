"""Whether drawn slices help: MufiNet on a tenth of the labels, alone and with a DCGAN trained on the same tenth; and what enhancement gains.

python -m bench.generation [--patients 80] [--share 0.1] [--seeds 3] [--hospitals FOLDER] [--smoke]

Phantom hospitals of the recipe `mufinet_dcgan`, put together. A share of the patients of the training hospitals, alike of every class, is
labelled; the others are held out, and so is the hospital with another scanner. Each arm takes equally many steps of the classifier. Beside
it: PSNR of held-out slices with white noise before and after the generator of `mufinet_enhanced`. ``--smoke`` says whether it runs at all.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from bench.timing import heading, table
from client.selection import all_records
from client.site import Site
from client.training import PREDICTORS
from client.training.gradient import network_of
from client.training.likeness import psnr_db
from client.training.records import Records
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.experiment import Experiment
from shared_models.metrics import score
from sim.experiments import find
from sim.progress import Progress
from sim.references import train_alone
from sim.settings import Phantoms, simulation_of
from sim.simulation import make_phantoms, prepare_sites

SHARES = (0.0, 0.25, 0.5)
"""Of a batch that is drawn; none is the real-only arm."""
NOISE_HU = (50.0, 100.0, 150.0)
ONE_RUN = ["stages=" + '[{rounds = 1, train_only = ["generator.*"], train = {steps = 2}}, {rounds = 1, train_only = ["classifier.*"]}]']
"""Settings of a smoke run."""


def hospitals(experiment: Experiment, folder: Path, patients: int) -> tuple[Records, Records]:
    """Return the records of the training hospitals together, and of the held-out one; made and prepared where they are not there yet."""
    document = experiment.model_dump(exclude_none=True)
    document["simulation"]["hospitals"] = [{**one, "patients": patients} for one in document["simulation"]["hospitals"]]
    asked = Experiment.model_validate(document)
    folder.mkdir(parents=True, exist_ok=True)
    places = make_phantoms(asked, folder)
    prepare_sites(asked, places, processes=1, progress=Progress(quiet=True))
    settings = simulation_of(asked)
    away = settings.held_out if isinstance(settings, Phantoms) else ()
    parts = {place.parent.name: all_records(Site.load(place), asked) for place in places}
    return Records.join([own for name, own in parts.items() if name not in away]), Records.join([parts[name] for name in away])


def textures() -> tuple[Records, Records]:
    """Return smooth noise of four classes of grey, in place of hospitals: it says nothing about patients."""
    rng, labels = np.random.default_rng(0), np.arange(16) % 4
    inputs = (0.3 + 0.1 * labels[:, None, None, None] + 0.05 * rng.normal(size=(16, 2, 32, 32))).astype(np.float32)
    whole = Records(inputs, labels, tuple(f"p{number}" for number in range(16)))
    return whole, whole


def labelled(records: Records, share: float, seed: int) -> tuple[Records, Records]:
    """Return a share of the patients of every class, and the others."""
    rng, chosen = np.random.default_rng([seed, 7]), []
    for number in np.unique(records.labels):
        members = rng.permutation(np.flatnonzero(records.labels == number))
        chosen += members[: max(1, round(share * len(members)))].tolist()
    return records.take(sorted(chosen)), records.take(sorted(set(range(len(records))) - set(chosen)))


def auroc(experiment: Experiment, state: State, records: Records) -> float:
    """Return the macro AUROC of a model."""
    probabilities = PREDICTORS[spec_of(experiment.model).fit](experiment, state, records)
    found = score(records.labels, probabilities, experiment.data.classes, metrics=("auroc_macro",), bootstrap=0)
    return float(found["auroc_macro"]["value"])


def gains_db(experiment: Experiment, state: State, records: Records) -> list[tuple[float, float, float]]:
    """Return noise in HU and the PSNR of slices before and after the generator, at each noise."""
    import torch

    network, clean = network_of(experiment, state), records.inputs
    low, high = experiment.inputs.window_hu
    rng, rows = np.random.default_rng(3), []
    for noise_hu in NOISE_HU:
        noisy = (clean + rng.normal(0, noise_hu / (high - low), clean.shape) * (clean > 0)).astype(np.float32)
        with torch.inference_mode():
            better = network.get_submodule("generator")(torch.from_numpy(noisy.reshape(-1, 1, *noisy.shape[-2:]))).numpy().reshape(noisy.shape)
        rows.append((noise_hu, psnr_db(noisy, clean), psnr_db(better, clean)))
    return rows


def main() -> None:
    """Measure both and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=80, help="of each hospital")
    parser.add_argument("--share", type=float, default=0.1, help="of the patients that is labelled")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hospitals", type=Path, help="folder to keep the phantom hospitals in")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    settings = ONE_RUN if asked.smoke else []
    with tempfile.TemporaryDirectory() as scratch:
        whole, away = textures() if asked.smoke else hospitals(find("mufinet_dcgan", []), asked.hospitals or Path(scratch), asked.patients)
    rows, known = [], whole
    for share in SHARES:
        experiment, found = find("mufinet_dcgan", [*settings, f"model.generated={share}"]), []
        for seed in range(1 if asked.smoke else asked.seeds):
            known, others = labelled(whole, 0.5 if asked.smoke else asked.share, seed)
            state = train_alone(experiment, known, seed=seed)
            found.append((auroc(experiment, state, others), auroc(experiment, state, away)))
        near, far = zip(*found, strict=True)
        print(f"  share {share}: {found}", flush=True)
        rows.append([f"{share:g}", str(len(known)), *(f"{statistics.mean(of):.3f} ({min(of):.3f} to {max(of):.3f})" for of in (near, far))])
    heading(f"AUROC of MufiNet on {asked.share:.0%} of the labels, mean (least to most) of the seeds; phantoms")
    table(["drawn share", "patients", "same scanners", "another scanner"], rows)
    enhanced = find("mufinet_enhanced", settings)
    known, others = labelled(whole, 0.5, 0)
    found_db = gains_db(enhanced, train_alone(enhanced, known, seed=0), others)
    heading("PSNR of held-out slices, dB; phantoms")
    table(["noise HU", "noisy", "enhanced", "gain"], [[f"{hu:g}", f"{a:.2f}", f"{b:.2f}", f"{b - a:.2f}"] for hu, a, b in found_db])


if __name__ == "__main__":
    main()
