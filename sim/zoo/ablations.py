"""What a part of a system adds: the same federation with and without it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.training import PREDICTORS
from client.training.records import Records, image_of
from shared_models.catalogue import spec_of
from shared_models.core.choices import apply_overrides, validated
from shared_models.core.errors import BadInput
from shared_models.core.files import read_json, write_json
from shared_models.experiment import Experiment
from shared_models.metrics import METRICS, score
from sim.hostile import federate_with
from sim.phantom.patient import make_phantom
from sim.scanner.scanner import SCANNERS, at_scan, scan
from sim.zoo.criteria import Criterion
from sim.zoo.ran import Ran

TWINS = ("basal_ggo", "apical_ggo")
SITES = {"alpha": ("A", 20), "beta": ("B", 20), "gamma": ("C", 20), "delta": ("E", 40)}
"""Scanner and patients of each site of the twins; the last one trains nothing."""
GRID_MM, RESOLUTION = 4.0, 5.0


def without(key: str, off: str, metric: str, *, seeds: int, says: str, least: float | None) -> Criterion:
    """Ask that a setting makes a metric of unseen patients better: how much better it is with the setting, mean over seeds of training.

    Parameters
    ----------
    key, off : str
        The setting, ``table.key``, and the value that takes it away.
    metric : str
        Of METRICS; of one of which less is better, a fall counts as a gain.
    seeds : int
        Runs of each.
    says : str
        What the figure is.
    least : float or None
        Bound of the gain; None only tells it.
    """

    def figure(ran: Ran) -> float | None:
        found: list[float] = []
        for seed in range(ran.experiment.seed, ran.experiment.seed + seeds):
            ours = ran.again("with", {}, seed=seed)[metric]
            theirs = ran.again(f"no-{key}", {}, settings=(f"{key}={off}",), seed=seed)[metric]
            if ours is None or theirs is None:
                return None
            found.append(ours - theirs if METRICS[metric].better == "higher" else theirs - ours)
        return mean(found)

    return Criterion(says, figure, least=least)


def own_parts(parts: tuple[str, ...], *, seeds: int, says: str, least: float | None) -> Criterion:
    """Ask what hospitals that train gain by keeping parts of the network to themselves, against FedAvg, which shares all of it.

    The figure is the headline of the recipe, mean over hospitals and seeds of training: each hospital's own validation patients, read with its own
    parts. A hospital that did not train has none, so nothing is asked there.

    Parameters
    ----------
    parts : tuple of str
        As ``personal`` of the strategy `fedper`; ``("normalisation",)`` is FedBN (Li et al., ICLR 2021).
    seeds : int
        Runs of each.
    says : str
        What the figure is.
    least : float or None
        Bound of the gain; None only tells it.
    """
    kept = ("strategy.name=fedbn",) if parts == ("normalisation",) else ("strategy.name=fedper", f"strategy.personal={json.dumps(parts)}")

    def figure(ran: Ran) -> float | None:
        better, gains = METRICS[ran.headline].better, list[float]()
        for seed in range(ran.experiment.seed, ran.experiment.seed + seeds):
            ours = ran.at_home("own-parts", kept, seed=seed)
            theirs = ran.at_home("shared", ("strategy.name=fedavg",), seed=seed)
            if ours is None or theirs is None:
                return None
            gains.append(ours - theirs if better == "higher" else theirs - ours)
        return mean(gains)

    return Criterion(says, figure, least=least)


def pretraining_helps(*, seeds: int = 3, least: float = 0.0) -> Criterion:
    """Ask that the same network from drawn weights is no better, mean AUROC over seeds of training."""

    def figure(ran: Ran) -> float | None:
        model: dict[str, Any] = ran.experiment.model_dump(mode="json", exclude_none=True)["model"]
        scratch = {"model": {name: value for name, value in model.items() if name != "weights"}}
        gains: list[float] = []
        for seed in range(ran.experiment.seed, ran.experiment.seed + seeds):
            ours, theirs = ran.again("pretrained", {}, seed=seed)["auroc_macro"], ran.again("scratch", scratch, seed=seed)["auroc_macro"]
            if ours is None or theirs is None:
                return None
            gains.append(ours - theirs)
        return mean(gains)

    return Criterion(f"AUROC with pretraining minus from scratch, {seeds} seeds", figure, least=least)


def place_matters(least: float = 0.05) -> Criterion:
    """Ask that the code of places adds AUROC where nothing but the place of a disease names it."""
    return Criterion(
        "AUROC of disease at the upper against the lower end of the stack: with the code of places minus without", _with_places, least=least
    )


def _with_places(ran: Ran) -> float | None:
    note = ran.folder / "places.json"
    if not note.exists():
        write_json(note, {str(place): _twins_told_apart(ran, place) for place in (True, False)}, durable=False)
    found = read_json(note)
    return None if None in found.values() else found["True"] - found["False"]


def _twins_told_apart(ran: Ran, place: bool) -> float | None:
    document = ran.experiment.model_dump(mode="json", exclude_none=True) | {"data": {"classes": list(TWINS)}}
    chosen = validated(Experiment, apply_overrides(document, [f"model.place={str(place).lower()}"]), what=f"{ran.experiment.name} on twins")
    parts = {name: twins(chosen, name) for name in SITES}
    away = parts.pop(list(SITES)[-1])
    with tempfile.TemporaryDirectory() as folder:
        state, _ = federate_with(chosen, parts, {}, Path(folder))
    probabilities = PREDICTORS[spec_of(chosen.model).fit](chosen, state, away)
    return score(away.labels, probabilities, TWINS, metrics=("auroc_macro",), bootstrap=0)["auroc_macro"]["value"]


def twins(experiment: Experiment, site: str) -> Records:
    """Return patients of a site whose ground glass lies at the lower (0) or upper (1) end of the stack of slices, as the model reads them.

    Half of the patients of either class are shown with their slices in reverse order, and named by where the disease lies then: the outline of the
    lungs, which tells the base from the apex by itself, says nothing, and only the place of a slice in its stack is left to name the class.
    """
    scanner, count = SCANNERS[SITES[site][0]].at(RESOLUTION), SITES[site][1]
    records, labels = [], []
    for number in range(count):
        apical, reverse = number % 2, number // 2 % 2
        seen = _seen(experiment, TWINS[apical], scanner, seed=1000 * list(SITES).index(site) + number)
        records.append(seen[::-1].copy() if reverse else seen)
        labels.append(apical ^ reverse)
    return Records(np.stack(records), np.array(labels), tuple(f"{site}{number}" for number in range(count)))


def _seen(experiment: Experiment, klass: str, scanner: Any, *, seed: int) -> np.ndarray:
    phantom = make_phantom(klass, seed=seed, grid_mm=GRID_MM)
    scanned = scan(phantom, scanner, seed=seed)
    hu, lung = np.asarray(scanned.hu[::-1], np.float32), at_scan(phantom.lung, phantom, scanned)[::-1]
    if not lung.any():
        raise BadInput("a phantom has lungs")
    prepared = Prepared(Volume(hu, scanned.spacing_mm), np.ascontiguousarray(lung > 0, np.uint8))
    return image_of(prepared, spec_of(experiment.model), experiment.inputs)
