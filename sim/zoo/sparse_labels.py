"""What slices that nobody has drawn on add to a segmentation, and whether labels that a federation gives itself are ranked rightly (S15)."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from client.cases.cache import load
from client.cases.cohort import Cohort
from client.cases.identity import Pseudonyms
from client.cases.prepared import Prepared
from client.site import Site
from client.training.maps import judged_records, predict_maps
from client.training.pseudo_labels import looked_at, steadiness
from client.training.records import Records
from client.training.targets import class_map, classes_at, images_and_classes, shown_slices
from shared_models.core.choices import apply_overrides, validated
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, read_state, write_json
from shared_models.experiment import Experiment
from shared_models.metrics.segmentation import score_pixels
from shared_models.patterns import UNLABELLED
from shared_models.phases import phases_of
from sim.federation import federate_in_pool
from sim.hospital.key import phantom_secret
from sim.pool import Pool
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran

SEEDS = 3


def without_labels_of_its_own(experiment: Experiment) -> Experiment:
    """Return the same training from drawn slices alone: no consistency, no labels of its own."""
    document = experiment.model_dump(mode="json", exclude_none=True)
    for stage in document.get("stages", ()):
        stage.get("train", {}).pop("pseudo_labels", None)
    return validated(Experiment, apply_overrides(document, ["model.weight=0.0"]), what=f"{experiment.name}, supervised")


def federated_dice(ran: Ran, label: str, experiment: Experiment, training: tuple[Path, ...]) -> float | None:
    """Federate a variant of the recipe over some of its hospitals and return its headline on unseen patients; what is finished is read again."""
    folder = ran.folder / "variants" / f"{label}-{experiment.digest[:12]}-{len(training)}"
    note = folder / "dice.json"
    if not note.exists():
        settings = experiment.model_copy(update={"federation": experiment.federation.model_copy(update={"quorum": len(training)})})
        with Pool(ran.processes, experiment=settings.for_sites().to_json()) as pool:
            federate_in_pool(settings, list(training), folder, pool)
            sites = [str(site) for site in ran.held_out]
            state = str(folder / "final.safetensors")
            (tables,) = pool.map("sim.tasks", "pixel_judgement", [(settings.for_sites().to_json(), state, sites, "all")])
        found = score_pixels(np.array(tables), settings.data.classes, bootstrap=0)[ran.headline]["value"]
        write_json(note, {"value": found}, durable=False)
    return read_json(note)["value"]


def drawn_at(ran: Ran) -> tuple[Path, ...]:
    """Return the training hospitals whose readers have drawn anything."""
    return tuple(site for site in ran.training if Site.load(site).site.annotations is not None)


def gains(ran: Ran) -> list[float] | None:
    """Return for each seed of training how much the recipe gains over the same one from drawn slices alone, at the hospitals that have any."""
    found = []
    for seed in range(ran.experiment.seed, ran.experiment.seed + SEEDS):
        whole = ran.experiment.model_copy(update={"seed": seed})
        ours = ran.value(ran.headline) if seed == ran.experiment.seed else federated_dice(ran, "whole", whole, ran.training)
        theirs = federated_dice(ran, "supervised", without_labels_of_its_own(whole), drawn_at(ran))
        if ours is None or theirs is None:
            return None
        found.append(ours - theirs)
    return found


def _least_gain(ran: Ran) -> float | None:
    found = gains(ran)
    return None if found is None else min(found)


def _mean_gain(ran: Ran) -> float | None:
    found = gains(ran)
    return None if found is None else mean(found)


def _label_free_gain(ran: Ran) -> float | None:
    ours, theirs = ran.value(ran.headline), federated_dice(ran, "drawn-alone", ran.experiment, drawn_at(ran))
    return None if ours is None or theirs is None else ours - theirs


def rank_correlation(ran: Ran) -> float | None:
    """Return Spearman's correlation of a slice's steadiness with the true Dice of the labels that it is given, over all training hospitals.

    The models are those that the sites kept after each third of the first stage; the truth is what was planted. Sites forget them with the next
    run, so this is asked before any variant is federated, and what was found once is read again.
    """
    from scipy.stats import rankdata

    note = ran.folder / "steadiness.json"
    if note.exists():
        return read_json(note)["value"]
    steady, right = [], []
    for path in ran.training:
        one, other = _slices_of(ran, Site.load(path))
        steady += one
        right += other
    found = float(np.corrcoef(rankdata(steady), rankdata(right))[0, 1]) if len(set(steady)) > 1 else None
    write_json(note, {"value": found, "slices": len(steady)}, durable=False)
    return found


def _slices_of(ran: Ran, place: Site) -> tuple[list[float], list[float]]:
    experiment = ran.experiment
    states = []
    for number in looked_at(phases_of(experiment)[0]):
        (path,) = (place.workspace / "checkpoints").glob(f"*-{number:06d}.safetensors")
        states.append(read_state(path))
    shown, truth = _with_truth(ran, place)
    open_ = shown.targets == UNLABELLED
    *earlier, last = [predict_maps(experiment, state, shown) for state in states]
    steady = np.mean([steadiness(one, last, open_) for one in earlier], axis=0)
    rows, columns = np.nonzero(open_.any((2, 3)))
    right = []
    for row, column in zip(rows, columns, strict=True):
        classes = np.where(open_[row, column], truth[row, column], 255)
        one = Records(shown.inputs[row, column][None, None], np.zeros(1, np.int64), ("",), targets=classes[None, None].astype(np.uint8))
        right.append(_dice(judged_records(experiment, states[-1], one)[0]))
    known = [not np.isnan(value) for value in right]
    return [float(steady[r, c]) for r, c, k in zip(rows, columns, known, strict=True) if k], [value for value in right if not np.isnan(value)]


def _dice(table: np.ndarray) -> float:
    """Return the mean Dice of all classes, healthy lung included, that a slice's truth or call holds."""
    both = table.sum(0) + table.sum(1)
    return float((2 * np.diagonal(table)[both > 0] / both[both > 0]).mean()) if both.any() else float("nan")


def _with_truth(ran: Ran, place: Site) -> tuple[Records, np.ndarray]:
    """Return the training records of a site, and on the very pixels the planted classes."""
    experiment, names = ran.experiment, Pseudonyms(phantom_secret(ran.experiment.seed, place.site.name))
    folder = ran.folder / "truth" / place.site.name
    visits: dict[str, Any] = {names.patient(visit["patient_id"]): visit for visit in reversed(read_json(folder / "truth.json")["visits"])}
    images, targets, planted, seen = [], [], [], []
    for case in Cohort.load(place.workspace / "cohort.json").cases:
        visit, prepared = visits[case.pseudonym], load(place.workspace / case.visits[0].prepared).prepared
        with np.load(folder / f"{visit['patient_id']}-{visit['study_date']}.npz", allow_pickle=False) as file:
            labels = np.ascontiguousarray(file["labels"][::-1])  # the truth runs from head to feet, a prepared volume from feet to head
        if labels.shape != prepared.volume.hu.shape:
            raise BadInput("planted disease is known on the scanner's own grid", value=labels.shape, remedy="leave preparation.grid_mm out")
        shown, classes = images_and_classes(prepared, experiment.data, experiment.inputs)
        chosen, _ = shown_slices(prepared, experiment.data, experiment.inputs)
        whole = class_map(Prepared(prepared.volume, prepared.mask, annotation=labels), experiment.data)
        images.append(shown)
        targets.append(classes)
        planted.append(classes_at(prepared, whole[chosen], experiment.inputs))
        seen.append(case.pseudonym)
    records = Records(np.stack(images), np.zeros(len(seen), np.int64), tuple(seen), targets=np.stack(targets))
    return records, np.stack(planted)


SPARSE = (
    Criterion("rank correlation of steadiness with true Dice of a slice's own label", rank_correlation, least=0.4),
    Criterion(f"Dice minus that of drawn slices alone, mean of {SEEDS} seeds", _mean_gain, least=0.02),
    Criterion(f"the same, least of {SEEDS} seeds", _least_gain, least=-0.01),
    Criterion("Dice with the hospital that has drawn nothing minus without it", _label_free_gain, least=0.0),
)
"""What S15 asks, in this order."""
