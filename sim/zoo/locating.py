"""Whether a system's maps lie on the planted disease of unseen patients, and whether they depend on what was learnt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from client.cases.cache import load
from client.cases.cohort import Case, Cohort
from client.cases.identity import Pseudonyms
from client.cases.prepared import Prepared
from client.explanation import subject_of
from client.site import Site
from client.training.records import image_of
from shared_models.bundle import load_bundle
from shared_models.catalogue import spec_of
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.explanations import EXPLANATIONS
from shared_models.explanations.faithful import deletion_and_insertion, pointed
from shared_models.explanations.sanity import alike, mass_ratio, randomised
from sim.hospital.key import phantom_secret
from sim.zoo.ran import Ran

DRAWS = 3
"""Networks of random weights that each map is compared with."""


@dataclass(frozen=True)
class Planted:
    """An unseen patient: the record as the model reads it, planted disease and lung as masks of the shape of a map of it."""

    record: np.ndarray
    disease: np.ndarray
    lung: np.ndarray


def located(ran: Ran, method: str) -> dict[str, float | None]:
    """Return how well the maps of a released network lie on planted disease; what was found once is read again.

    Returns
    -------
    dict
        ``mass_ratio``: mean of the map inside planted disease over its mean in the rest of the lungs, median over patients; 1 is no better than
        looking anywhere. ``by_chance``: the same of networks with random weights. ``alike``: mean rank correlation of the map with theirs.
        ``pointed``: share of patients whose hottest place in the lungs is planted disease; ``diseased``: the share that pointing anywhere would
        reach. ``faithful``: probability of the class while the hottest places are put in first, less that while they are taken out first, median.
        All None without patients to look at.
    """
    note = ran.folder / f"located-{method}.json"
    if note.exists() and "pointed" in (found := read_json(note)):
        return found
    bundle, ratios, chance, likeness = load_bundle(ran.folder / "bundle"), [], [], []
    hits, shares, faithful = [], [], []
    explain = EXPLANATIONS[method].function
    for patient in planted(ran):
        subject = subject_of(bundle, patient.record)
        if subject.network is None:
            raise BadInput(f"{method} is asked of networks", value=ran.experiment.model.name)
        label = int(subject.predict(patient.record[None])[0].argmax())
        heat = explain(subject, label)
        ratios.append(mass_ratio(heat, patient.disease, patient.lung))
        hits.append(pointed(heat, patient.disease, patient.lung))
        shares.append(patient.disease[patient.lung].mean())
        areas = deletion_and_insertion(subject, label, heat)
        faithful.append(areas.insertion - areas.deletion)
        for seed in range(DRAWS):
            other = explain(replace(subject, network=randomised(subject.network, seed=seed)), label)
            chance.append(mass_ratio(other, patient.disease, patient.lung))
            likeness.append(alike(heat, other))
    found = {
        "mass_ratio": float(np.median(ratios)) if ratios else None,
        "by_chance": float(np.median(chance)) if chance else None,
        "alike": float(np.mean(likeness)) if likeness else None,
        "pointed": float(np.mean(hits)) if hits else None,
        "diseased": float(np.mean(shares)) if shares else None,
        "faithful": float(np.median(faithful)) if faithful else None,
    }
    write_json(note, found, durable=False)
    return found


def planted(ran: Ran) -> Iterator[Planted]:
    """Yield the unseen patients in whom the model may see disease beside healthy lung."""
    spec, inputs = spec_of(ran.experiment.model), ran.experiment.inputs
    whole = inputs.model_copy(update={"window_hu": (0.0, 1.0)})
    for path in ran.held_out:
        place = Site.load(path)
        for case, prepared, labels in _studies(ran, place):
            if case.label not in ran.experiment.data.classes or prepared.mask is None:
                continue
            shown = [np.asarray(labels > 0, np.float32), np.asarray(prepared.mask > 0, np.float32)]
            masks = [image_of(Prepared(replace(prepared.volume, hu=one), prepared.mask), spec, whole) > 0.5 for one in shown]
            if spec.takes == "volume":
                masks = [mask[0] for mask in masks]  # a volume's record has a channel, its map none
            if (masks[0] & masks[1]).any() and (masks[1] & ~masks[0]).any():
                yield Planted(image_of(prepared, spec, inputs), masks[0], masks[1])


def _studies(ran: Ran, place: Site) -> Iterator[tuple[Case, Prepared, np.ndarray]]:
    """Yield the first visit of each patient with the planted labels on its grid."""
    names = Pseudonyms(phantom_secret(ran.experiment.seed, place.site.name))
    truth = ran.folder / "truth" / place.site.name
    known = {names.patient(visit["patient_id"]): visit for visit in reversed(read_json(truth / "truth.json")["visits"])}
    for case in Cohort.load(place.workspace / "cohort.json").cases:
        visit = known[case.pseudonym]
        prepared = load(place.workspace / case.visits[0].prepared).prepared
        with np.load(truth / f"{visit['patient_id']}-{visit['study_date']}.npz", allow_pickle=False) as file:
            labels = file["labels"][::-1]  # the truth runs from head to feet, a prepared volume from feet to head
        if labels.shape != prepared.volume.hu.shape:
            rule = "planted disease is known on the scanner's own grid"
            raise BadInput(rule, value=prepared.volume.hu.shape, remedy="leave preparation.grid_mm out")
        yield case, prepared, labels
