"""What the simulation lets its warm processes do beside the ClientApp: baselines, predictions, initial states."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.prognosis import prognosis_of
from client.selection import cohort_of
from client.site import Site
from client.statistics import all_seen, look_of, seen_records
from client.training import FITTERS, PREDICTORS, case_pixel_tables, diagnosis_probabilities, objective_loss, pixel_tables
from client.training.fitter import round_seed
from client.training.memory import Memory
from client.training.personal_models import beside
from client.training.pseudo_labels import with_pseudo_labels
from client.training.records import Records
from client.training.resting import resting
from client.training.rules import rule_of
from server.app import strategy_of
from server.runs.start import write_start
from server.strategies.replies import Spool
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.core.files import read_state, write_state
from shared_models.experiment import Experiment, learning_rate_factor
from shared_models.phases import Phase, phases_of, trained


def start_state(experiment: str, folder: str) -> None:
    """Write the run's initial state."""
    write_start(Experiment.from_json(experiment), Path(folder))


def predictions(experiment: str, state: str, sites: list[str], part: str) -> tuple[list[int], list[list[float]], list[str]]:
    """Return labels, probabilities and names of the ``all`` or ``validation`` records of sites under a saved state."""
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    records = Records.join([_records(site, settings, whole, part) for site in sites])
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, whole, records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def personal_predictions(experiment: str, state: str, site: str, part: str) -> tuple[list[int], list[list[float]], list[str]] | None:
    """Return what `predictions` does for one site under the personal model that it keeps beside the saved state; None when it keeps none."""
    settings, place = Experiment.from_json(experiment), Site.load(site)
    try:
        own = beside(place.workspace, read_state(Path(state)))
    except BadInput:
        return None
    records = _records(site, settings, own, part)
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, own, records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def pixel_judgement(experiment: str, state: str, sites: list[str], part: str, personal: bool = False) -> list[list[list[int]]] | None:
    """Return each patient's table of pixels (truth, call) under a saved state: over ``all`` annotated slices of all patients of sites, or over
    the slices that training would see of the ``validation`` patients.

    `personal` judges the personal model that the one site keeps beside the state; None when it keeps none.
    """
    settings, whole, tables = Experiment.from_json(experiment), read_state(Path(state)), []
    if personal:
        try:
            whole = beside(Site.load(sites[0]).workspace, whole)
        except BadInput:
            return None
    for site in sites:
        place = Site.load(site)
        if part == "all":
            cases, see = cohort_of(place, settings).cases, look_of(settings, whole)
            tables.append(case_pixel_tables(settings, whole, cases, place.workspace, see=see))
        else:
            tables.append(pixel_tables(settings, whole, _records(site, settings, whole, part)))
    return np.concatenate(tables).tolist()


def told_findings(
    experiment: str, state: str, sites: list[str], part: str, personal: bool = False
) -> tuple[list[list[float]], list[list[float]], list[str]] | None:
    """Return what is known of each finding (NaN: nothing), its probabilities, and names of the ``all`` or ``validation`` records of sites.

    `personal` judges the personal model that the one site keeps beside the state; None when it keeps none.
    """
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    if personal:
        try:
            whole = beside(Site.load(sites[0]).workspace, whole)
        except BadInput:
            return None
    records = Records.join([_records(site, settings, whole, part) for site in sites])
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, whole, records)
    return np.asarray(records.targets, np.float64).tolist(), probabilities.tolist(), list(records.names)


def risks(experiment: str, state: str, sites: list[str], part: str) -> tuple[list[list[float]], list[float]]:
    """Return outcomes (time, event, number of the site) and risks of the ``all`` or ``validation`` records of sites under a saved state."""
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    records = Records.join([_records(site, settings, whole, part) for site in sites])
    found = PREDICTORS[spec_of(settings.model).fit](settings, whole, records)
    return records.outcome.tolist(), found[:, 0].tolist()


def prognoses(
    experiment: str, state: str, sites: list[str], part: str, personal: bool = False
) -> tuple[list[list[float]], list[list[float]], list[str]] | None:
    """Return outcomes (time, event, number of the site), predictions and names of the ``all`` or ``validation`` records of sites.

    ``held_out`` are the validation patients at every visit that the model reads. `personal` asks the personal model that the one site keeps beside
    the state; None when it keeps none.
    """
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    if personal:
        try:
            whole = beside(Site.load(sites[0]).workspace, whole)
        except BadInput:
            return None
    records = Records.join([_records(site, settings, whole, part) for site in sites])
    found = prognosis_of(settings, whole, records)
    return records.outcome.tolist(), found.tolist(), list(records.names)


def diagnoses(experiment: str, state: str, sites: list[str]) -> tuple[list[int], list[list[float]], list[str]]:
    """Return labels, probabilities and names of those records of sites whose diagnosis is one of ``data.diagnoses``, by a network's second head."""
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    records = Records.join([_records(site, settings, whole, "all") for site in sites])
    numbers = np.asarray(records.targets, np.int64)
    known = np.flatnonzero(numbers >= 0)
    found = diagnosis_probabilities(settings, whole, records.take(known))
    return numbers[known].tolist(), found.tolist(), [records.names[number] for number in known]


def unexplained_shares(experiment: str, state: str, sites: list[str], part: str) -> tuple[list[float], list[str]]:
    """Return of each record of sites the share of its hidden pixels' variance that a network of images alone leaves unexplained, and the names."""
    settings, whole = Experiment.from_json(experiment), read_state(Path(state))
    records = Records.join([_records(site, settings, whole, part) for site in sites])
    return [objective_loss(settings, whole, records.take([number])) for number in range(len(records))], list(records.names)


def predictions_at_home(
    experiment: str, state: str, site: str, part: str, rule: Mapping[str, Any], at: tuple[str, int]
) -> tuple[list[int], list[list[float]], list[str]]:
    """Return what `predictions` does for one site, under the model that this site uses: with what is its own after a round.

    `rule` is the strategy's half at the sites, `at` the run and the round.
    """
    settings, place = Experiment.from_json(experiment), Site.load(site)
    received = read_state(Path(state))
    records = _records(site, settings, received, part)
    if spec_of(settings.model).fit in NETWORK_FITS:
        from client.training.personal import personal_of

        memory = Memory(place.workspace / "strategy", place.site.name, at[0], at[1] + 1, settings.digest)
        own = personal_of(rule_of(rule, {}, memory)[0], settings, memory)
        received = own.seen(trained(received)) if own else received
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, received, records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def train_alone(experiment: str, sites: list[str], start: str, out: str, name: str) -> int:
    """Train on the joined training records of `sites` as a federation of one, and write the final state; return the steps taken.

    The same loop, schedule, seeds and number of rounds as in the federation: one site alone takes as many gradient steps as it takes in
    the federation, all sites pooled take as many as all of them together.
    """
    settings = Experiment.from_json(experiment)
    spec = spec_of(settings.model)
    model = None if spec.fit in NETWORK_FITS else build(settings.model, inputs=inputs_of(settings), outputs=settings.data.outputs)
    plain = settings.model_copy(update={"strategy": None, "calibration": None})
    state, steps = read_state(Path(start)), 0
    received: dict[int, State] = {}
    for phase in phases_of(plain):
        if phase.number is not None:
            state = _fitted(phase, state, sites)
            continue
        records = Records.join([_records(site, settings, state, "training") for site in sites])
        alone = phase.settings.model_copy(update={"strategy": None, "stages": None})
        strategy = strategy_of(alone, model)
        own, now = strategy.start(trained(state)), trained(state)
        for number in range(phase.first, phase.last + 1):
            factor = learning_rate_factor(alone.train, number - phase.first + 1, phase.rounds)
            rule, _ = rule_of(strategy.rule, {})
            rule = resting(rule, alone, frozenset(phase.changed(state))) if phase.train_only else rule
            taught = with_pseudo_labels(plain, phase, number, now, records, received)
            fitted = FITTERS[spec.fit](alone, now, taught, rule=rule, factor=factor, seed=round_seed(settings.seed, number, name))
            steps += fitted.steps
            if spec.fit in NETWORK_FITS:
                now = {**now, **{key: fitted.state[key] for key in phase.changed(state)}}
                continue
            with tempfile.TemporaryDirectory() as folder:
                spool = Spool(Path(folder))
                spool.add(name, fitted.state, num_cases=len(records), steps=fitted.steps)
                now, own = strategy.aggregate(now, own, spool)
        state = {**state, **now}
    write_state(Path(out), state)
    return steps


def _fitted(phase: Phase, state: State, sites: list[str]) -> State:
    """Return `state` with a statistic fitted on the training records of `sites`, each summed by itself."""
    statistic: Any = phase.statistic
    for _ in range(phase.rounds):
        part, sums = phase.changed(state), []
        for site in sites:
            records = seen_records(Site.load(site), phase.settings, state, fitting=phase.number)[0]
            sums.append(statistic.contribution(part, records.inputs, records.course, seed=0))
        state = phase.joined(state, statistic.combine(part, sums, [1.0] * len(sums)))
    return state


def records_at(sites: list[str], experiment: Experiment, state: State) -> Records:
    """Return all labelled records of sites together, as the model sees them under a state."""
    return Records.join([_records(site, experiment, state, "all") for site in sites])


def _records(site: str, experiment: Experiment, state: State, part: str) -> Records:
    place = Site.load(site)
    if part == "all":
        return all_seen(place, experiment, state)
    training, validation = seen_records(place, experiment, state, every_visit=part == "held_out")
    return training if part == "training" else validation


def count_parameters(state: str) -> int:
    """Return the numbers in a saved state."""
    return int(sum(np.prod(value.shape) for value in read_state(Path(state)).values()))
