"""Whether a system that finds the lungs itself finds those that were planted, disease at the pleura included, better than a threshold does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from client.cases.cache import load
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.cases.prepared import Prepared
from client.segmentation.components import label
from client.site import Site
from client.training.gradient import network_of
from client.training.records import slices_at
from client.training.targets import classes_at
from shared_models.bundle import load_bundle
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.patterns import PATTERNS
from sim.hospital.key import phantom_secret
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran

RIM_VOXELS = 2
"""Depth of the pleura's side of the lung in which consolidation counts as touching it."""
LEAST_TOUCHING = 20
"""Voxels of such consolidation that a slice must hold."""


def found_lungs(ran: Ran) -> dict[str, float | None]:
    """Return how well the planted lungs of unseen patients are found; what was found once is read again.

    Returns
    -------
    dict
        ``dice``: mean over patients, all slices with lung; ``touching`` and ``threshold``: of all slices together on which consolidation touches the
        pleura, by the system and by Otsu's threshold with holes filled; ``first_head``: as ``dice``, by the shallowest head of a U-Net++;
        ``prepared``: as ``dice``, of the masks that the hospitals prepared, from which the system learnt: who repeats them gets no further.
    """
    note = ran.folder / "lungs.json"
    if note.exists():
        return read_json(note)
    network: Any = network_of(ran.experiment, load_bundle(ran.folder / "bundle").state)
    each: dict[str, list[float]] = {"dice": [], "first_head": [], "prepared": []}
    touching: dict[str, list[np.ndarray]] = {"touching": [], "threshold": []}
    for image, truth, touches, prepared in _patients(ran):
        with torch.inference_mode():
            slices = torch.from_numpy(image[None])
            found = (network.lungs(slices)[0] > 0.5).numpy()
            if hasattr(network.segmenter, "look"):
                first = network.segmenter.look(slices.flatten(0, 1)[:, None])[0]
                each["first_head"].append(_dice(first.argmax(1).numpy() == 1, truth))
        each["dice"].append(_dice(found, truth))
        each["prepared"].append(_dice(prepared, truth))
        plain = np.stack([by_threshold(plane) for plane in image])
        for name, mask in (("touching", found), ("threshold", plain)):
            touching[name].append(np.array([[(mask & truth)[touches].sum(), mask[touches].sum() + truth[touches].sum()]]))
    told: dict[str, float | None] = {name: float(np.mean(values)) if values else None for name, values in each.items()}
    for name, counts in touching.items():
        both, either = np.concatenate(counts).sum(0)
        told[name] = float(2 * both / either) if either else None
    write_json(note, told, durable=False)
    return told


def by_threshold(plane: np.ndarray) -> np.ndarray:
    """Return the lungs of a slice as Otsu's threshold finds them: dark, not joined to the border of the slice, holes filled.

    Source: Otsu, IEEE Trans SMC 9:62, 1979: the threshold of largest variance between what lies below and what lies above it.

    Examples
    --------
    >>> plane = np.ones((7, 7)); plane[2:5, 2:5] = 0.0; plane[3, 3] = 1.0
    >>> int(by_threshold(plane).sum())
    9
    """
    counts, edges = np.histogram(plane, 64)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * middles)
    low, high = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    dark = plane < edges[1 + int((below * above * (high - low) ** 2).argmax())]
    labels, _ = label(dark)
    outside = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(ndimage.binary_fill_holes(dark & ~np.isin(labels, outside)), bool)


def _patients(ran: Ran) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield of each unseen patient the slices with planted lung, the planted lung on them, on which of them consolidation touches the pleura, and the
    lung that the hospital prepared on them.
    """
    experiment = ran.experiment
    for path in ran.held_out:
        place = Site.load(path)
        names, folder = Pseudonyms(phantom_secret(experiment.seed, place.site.name)), ran.folder / "truth" / place.site.name
        visits = {names.patient(visit["patient_id"]): visit for visit in reversed(read_json(folder / "truth.json")["visits"])}
        for case in Cohort.load(place.workspace / "cohort.json").cases:
            visit, prepared = visits[case.pseudonym], load(place.workspace / case.visits[0].prepared).prepared
            volume = prepared.volume
            with np.load(folder / f"{visit['patient_id']}-{visit['study_date']}.npz", allow_pickle=False) as file:
                lung, labels = (np.ascontiguousarray(file[name][::-1]) for name in ("lung", "labels"))  # the truth runs from head to feet
            if lung.shape != volume.hu.shape:
                raise BadInput("planted lungs are known on the scanner's own grid", value=lung.shape, remedy="leave preparation.grid_mm out")
            planted = Prepared(volume, np.asarray(lung > 0, np.uint8))
            chosen = np.flatnonzero(lung.any((1, 2)))
            rim = np.stack([plane & ~np.asarray(ndimage.binary_erosion(plane, iterations=RIM_VOXELS), bool) for plane in lung[chosen] > 0])
            touches = ((labels[chosen] == PATTERNS["consolidation"]) & rim).sum((1, 2)) >= LEAST_TOUCHING
            own = np.zeros(lung.shape) if prepared.mask is None else prepared.mask
            at = (classes_at(planted, (mask[chosen] > 0).astype(np.uint8), experiment.inputs) == 1 for mask in (lung, own))
            yield slices_at(planted, experiment.inputs, chosen), next(at), touches, next(at)


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def lungs_found(least: float) -> Criterion:
    """Ask the Dice of planted lungs, unseen patients."""
    return Criterion("Dice of planted lungs, unseen patients", lambda ran: found_lungs(ran)["dice"], least=least)


def _over_threshold(ran: Ran) -> float | None:
    found = found_lungs(ran)
    return None if found["touching"] is None or found["threshold"] is None else found["touching"] - found["threshold"]


OVER_THRESHOLD = Criterion("the same where consolidation touches the pleura, minus that of Otsu's threshold", _over_threshold, least=0.02)
FIRST_HEAD = Criterion("Dice of planted lungs by the shallowest head alone", lambda ran: found_lungs(ran)["first_head"])
TAUGHT_BY = Criterion("the same of the masks that it learnt from", lambda ran: found_lungs(ran)["prepared"])
