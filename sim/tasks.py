"""What the simulation lets its warm processes do beside the ClientApp: baselines, predictions, initial states."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client.selection import all_records, split_records
from client.site import Site
from client.training import FITTERS, PREDICTORS
from client.training.fitter import round_seed
from client.training.memory import Memory
from client.training.personal_models import beside
from client.training.records import Records
from client.training.rules import rule_of
from server.app import strategy_of
from server.runs.start import write_start
from server.strategies.replies import Spool
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.errors import BadInput
from shared_models.core.files import read_state, write_state
from shared_models.experiment import Experiment, learning_rate_factor


def start_state(experiment: str, folder: str) -> None:
    """Write the run's initial state."""
    write_start(Experiment.from_json(experiment), Path(folder))


def predictions(experiment: str, state: str, sites: list[str], part: str) -> tuple[list[int], list[list[float]], list[str]]:
    """Return labels, probabilities and names of the ``all`` or ``validation`` records of sites under a saved state."""
    settings = Experiment.from_json(experiment)
    records = Records.join([_records(site, settings, part) for site in sites])
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, read_state(Path(state)), records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def personal_predictions(experiment: str, state: str, site: str, part: str) -> tuple[list[int], list[list[float]], list[str]] | None:
    """Return what `predictions` does for one site under the personal model that it keeps beside the saved state; None when it keeps none."""
    settings, place = Experiment.from_json(experiment), Site.load(site)
    try:
        own = beside(place.workspace, read_state(Path(state)))
    except BadInput:
        return None
    records = _records(site, settings, part)
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, own, records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def risks(experiment: str, state: str, sites: list[str]) -> tuple[list[list[float]], list[float]]:
    """Return outcomes (time, event, number of the site) and risks of all records of sites under a saved state."""
    settings = Experiment.from_json(experiment)
    records = Records.join([_records(site, settings, "all") for site in sites])
    found = PREDICTORS[spec_of(settings.model).fit](settings, read_state(Path(state)), records)
    return records.outcome.tolist(), found[:, 0].tolist()


def predictions_at_home(
    experiment: str, state: str, site: str, part: str, rule: Mapping[str, Any], at: tuple[str, int]
) -> tuple[list[int], list[list[float]], list[str]]:
    """Return what `predictions` does for one site, under the model that this site uses: with what is its own after a round.

    `rule` is the strategy's half at the sites, `at` the run and the round.
    """
    settings, place = Experiment.from_json(experiment), Site.load(site)
    records, received = _records(site, settings, part), read_state(Path(state))
    if spec_of(settings.model).fit == "gradient":
        from client.training.personal import personal_of

        memory = Memory(place.workspace / "strategy", place.site.name, at[0], at[1] + 1, settings.digest)
        own = personal_of(rule_of(rule, {}, memory)[0], settings, memory)
        received = own.seen(received) if own else received
    probabilities = PREDICTORS[spec_of(settings.model).fit](settings, received, records)
    return records.labels.tolist(), probabilities.tolist(), list(records.names)


def train_alone(experiment: str, sites: list[str], start: str, out: str, name: str) -> int:
    """Train on the joined training records of `sites` as a federation of one, and write the final state; return the steps taken.

    The same loop, schedule, seeds and number of rounds as in the federation: one site alone takes as many gradient steps as it takes in
    the federation, all sites pooled take as many as all of them together.
    """
    settings = Experiment.from_json(experiment)
    spec = spec_of(settings.model)
    records = Records.join([_records(site, settings, "training") for site in sites])
    model = None if spec.fit == "gradient" else build(settings.model, inputs=inputs_of(settings), outputs=len(settings.data.classes))
    strategy = strategy_of(settings.model_copy(update={"strategy": None}), model)
    state = read_state(Path(start))
    own, steps = strategy.start(state), 0
    for number in range(1, settings.federation.rounds + 1):
        factor = learning_rate_factor(settings.train, number, settings.federation.rounds)
        rule, _ = rule_of(strategy.rule, {})
        fitted = FITTERS[spec.fit](settings, state, records, rule=rule, factor=factor, seed=round_seed(settings.seed, number, name))
        steps += fitted.steps
        if spec.fit == "gradient":
            state = fitted.state
            continue
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Path(folder))
            spool.add(name, fitted.state, num_cases=len(records), steps=fitted.steps)
            state, own = strategy.aggregate(state, own, spool)
    write_state(Path(out), state)
    return steps


def _records(site: str, experiment: Experiment, part: str) -> Records:
    place = Site.load(site)
    if part == "all":
        return all_records(place, experiment)
    training, validation = split_records(place, experiment)
    return training if part == "training" else validation


def count_parameters(state: str) -> int:
    """Return the numbers in a saved state."""
    return int(sum(np.prod(value.shape) for value in read_state(Path(state)).values()))
