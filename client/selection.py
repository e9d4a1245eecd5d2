"""Which of a site's patients an experiment sees, and how a model does on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from client.cases.cohort import Cohort
from client.cases.patches import read_patches
from client.cases.splits import place, split
from client.privacy.gate import Measured
from client.site import Site
from client.training import PREDICTORS
from client.training.records import Records, records_of
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadCohort
from shared_models.experiment import Experiment
from shared_models.metrics import score


def patch_records(site: Site, experiment: Experiment) -> Records:
    """Return the site's labelled patches as records, in HU or in the experiment's window as the model wants."""
    spec = spec_of(experiment.model)
    if spec.takes != "patch" or site.site.patches is None:
        raise BadCohort("patches need a model that takes a patch and a site with `patches` in its TOML", value=experiment.model.name)
    hu, labels, names = read_patches(site.path(site.site.patches), experiment.data.classes)
    if spec.units == "unit":
        low, high = experiment.inputs.window_hu
        hu = np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)
    return Records(hu, labels, names)


def cohort_of(site: Site, experiment: Experiment) -> Cohort:
    """Return the site's prepared patients that carry one of the experiment's classes, after its merging of labels."""
    cohort = Cohort.load(site.workspace / "cohort.json")
    merge, classes = experiment.data.merge, experiment.data.classes
    cases = [replace(case, label=merge.get(case.label or "", case.label)) for case in cohort.cases]
    return Cohort(tuple(case for case in cases if case.label in classes), classes)


def all_records(site: Site, experiment: Experiment) -> Records:
    """Return all labelled records of a site."""
    if experiment.data.kind == "patches":
        return patch_records(site, experiment)
    return records_of(cohort_of(site, experiment).cases, experiment, site.workspace)


def split_records(site: Site, experiment: Experiment) -> tuple[Records, Records]:
    """Return training and validation records, split by a keyed hash of the patient: a patient is on one side, and always on the same."""
    records = all_records(site, experiment)
    held = _held_out(site, experiment, records.names)
    validation = np.array([name in held for name in records.names], bool)
    return records.take(np.flatnonzero(~validation)), records.take(np.flatnonzero(validation))


def training_names(site: Site, experiment: Experiment) -> tuple[str, ...]:
    """Return the pseudonyms of the training records without reading an image of a study."""
    if experiment.data.kind == "patches":
        names = patch_records(site, experiment).names
    else:
        names = tuple(case.pseudonym for case in cohort_of(site, experiment).cases)
    held = _held_out(site, experiment, names)
    return tuple(name for name in names if name not in held)


def _held_out(site: Site, experiment: Experiment, names: Sequence[str]) -> set[str]:
    share, salt = experiment.evaluation.validation, f"validation/{experiment.seed}"
    if experiment.data.kind == "patches":
        return {name for name in names if place(name, salt=salt) < share}
    return {case.pseudonym for case in split(cohort_of(site, experiment), validation=share, salt=salt)[1].cases}


def measure(experiment: Experiment, state: State, records: Records) -> dict[str, Measured]:
    """Judge `state` on a site's own validation patients: loss, accuracy and macro AUROC with the numbers of patients behind them."""
    if len(records) == 0:
        return {}
    spec = spec_of(experiment.model)
    probabilities = PREDICTORS[spec.fit](experiment, state, records)
    classes = experiment.data.classes
    counts = np.bincount(records.labels, minlength=len(classes))
    smallest = int(counts[counts > 0].min())
    n = len(records)
    loss = float(-np.log(np.maximum(probabilities[np.arange(n), records.labels], 1e-12)).mean())
    scores = score(records.labels, probabilities, classes, metrics=("auroc_macro", "accuracy"), bootstrap=0)
    return {
        "val_loss": Measured(loss, n),
        "val_accuracy": Measured(scores["accuracy"]["value"], n),
        "val_auroc_macro": Measured(scores["auroc_macro"]["value"], n, smallest),
        "val_cases": Measured(n, n),
    }
