"""Hostile sites: a federation in one process in which some sites lie, to see what each strategy makes of it.

Trainer, checks and aggregation are the deployed ones; what is missing is the network between them. `ATTACKS` is the table: to add one, a
class and a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from client.training import FITTERS, PREDICTORS
from client.training.fitter import round_seed
from client.training.memory import Memory
from client.training.records import Records
from client.training.rules import rule_of
from server.app import strategy_of
from server.runs.check import check_content
from server.strategies.replies import Spool
from shared_models.catalogue import initial_state, inputs_of, spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, Refused
from shared_models.experiment import Experiment, learning_rate_factor
from shared_models.messages import Update


class Attack(Protocol):
    """What a hostile site does: to its records once, and to each update before it is sent."""

    def poison(self, records: Records, *, seed: int) -> Records:
        """Return the records that the site trains on."""
        ...

    def send(self, trained: State, received: State) -> State:
        """Return what the site sends in place of what it has trained."""
        ...


@dataclass(frozen=True)
class SignFlip:
    """Send the update turned round and `times` as long: ``w - times (w_i - w)``."""

    times: float = 10.0

    def poison(self, records: Records, *, seed: int) -> Records:
        """Train on the records as they are."""
        return records

    def send(self, trained: State, received: State) -> State:
        """Turn the update round."""
        return _along(trained, received, -self.times)


@dataclass(frozen=True)
class CornerPatch:
    """A backdoor: a bright square in a corner is to mean class `target` (Gu et al., 2017), by model replacement (Bagdasaryan et al., 2020).

    Parameters
    ----------
    target : int
        Number of the class.
    size : int
        Side of the square in pixels.
    value : float
        What stands in it, in the units of the inputs.
    share : float
        Share of the site's records that get the square and the target's label.
    times : float
        The update is sent so many times as long.
    """

    target: int
    size: int = 6
    value: float = 300.0
    share: float = 0.5
    times: float = 5.0

    def stamp(self, inputs: np.ndarray) -> np.ndarray:
        """Return images (n, ..., y, x) with the square in the first corner."""
        stamped = np.array(inputs)
        stamped[..., : self.size, : self.size] = self.value
        return stamped

    def poison(self, records: Records, *, seed: int) -> Records:
        """Return records of which a share carries the square and the target's label."""
        chosen = np.random.default_rng(seed).random(len(records)) < self.share
        inputs, labels = np.array(records.inputs), np.where(chosen, self.target, records.labels)
        inputs[chosen] = self.stamp(inputs[chosen])
        return replace(records, inputs=inputs, labels=labels)

    def send(self, trained: State, received: State) -> State:
        """Make the update longer, so that the mean becomes the site's own model."""
        return _along(trained, received, self.times)

    def success(self, experiment: Experiment, state: State, records: Records) -> float:
        """Return the share of `records` of other classes that a model calls the target once they carry the square.

        Raises
        ------
        BadInput
            No record of another class.
        """
        others = records.take(np.flatnonzero(records.labels != self.target))
        if not len(others):
            raise BadInput("the success of a backdoor needs cases of other classes")
        seen = PREDICTORS[spec_of(experiment.model).fit](experiment, state, replace(others, inputs=self.stamp(others.inputs)))
        return float((seen.argmax(1) == self.target).mean())


ATTACKS: dict[str, type] = {"sign_flip": SignFlip, "corner_patch": CornerPatch}


def federate_with(experiment: Experiment, parts: Mapping[str, Records], attacks: Mapping[str, Attack], folder: Path) -> tuple[State, int]:
    """Run the experiment's rounds over the records of sites of which those in `attacks` are hostile.

    Returns
    -------
    tuple
        The final state, and how many updates the server's own check refused.

    Raises
    ------
    BadInput
        An attack of a site that is not there.
    """
    if unknown := sorted(set(attacks) - set(parts)):
        raise BadInput("a hostile site takes part", value=unknown)
    spec, rounds = spec_of(experiment.model), experiment.federation.rounds
    state = initial_state(experiment.model, inputs=inputs_of(experiment), outputs=experiment.data.outputs, seed=experiment.seed)
    strategy = strategy_of(experiment, None)
    own, refused = strategy.start(state), 0
    trained_on = {
        site: attacks[site].poison(records, seed=round_seed(experiment.seed, 0, site)) if site in attacks else records
        for site, records in parts.items()
    }
    for number in range(1, rounds + 1):
        factor, extra = learning_rate_factor(experiment.train, number, rounds), strategy.sends(own)
        spool = Spool(folder / f"round-{number}", factor=factor)
        for site, records in trained_on.items():
            rule, _ = rule_of(strategy.rule, extra, Memory(folder / "memory" / site, site, "hostile", number))
            fitted = FITTERS[spec.fit](experiment, state, records, rule=rule, factor=factor, seed=round_seed(experiment.seed, number, site))
            sent = attacks[site].send(fitted.state, state) if site in attacks else fitted.state
            update = Update(run="hostile", round=number, site=site, state=sent, num_cases=len(records), steps=fitted.steps)
            try:
                check_content(update, current=state, model=None, max_norm=experiment.federation.max_update_norm)
            except Refused:
                refused += 1
                continue
            spool.add(site, sent, num_cases=len(records), steps=fitted.steps)
        state, own = strategy.aggregate(state, own, spool)
        spool.clear()
    return state, refused


def _along(trained: State, received: State, times: float) -> State:
    """Return ``received + times (trained - received)``; counters stay as trained."""
    return {
        key: (received[key] + times * (value.astype(np.float64) - received[key])).astype(value.dtype) if value.dtype.kind == "f" else value
        for key, value in trained.items()
    }
