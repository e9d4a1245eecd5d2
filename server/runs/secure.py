"""The server's half of the secure sum (`shared_models/secure_sum`): it adds masked words and unmasks the total, and never holds an update of one
site.

A group (`secure_group`) is formed when the roster or the supply of slots asks for it; each attempt at a round takes a slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from server.runs.secure_group import Ask, Group, Phases, form
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, BadState, Refused
from shared_models.core.state import same_layout, size_bytes
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.secure_sum.group import LEAST_SITES, mask_purpose, self_mask_check
from shared_models.secure_sum.masks import agreed_key, apply_mask, derived, public_key
from shared_models.secure_sum.shares import SEALED_BYTES, SECRET_BYTES, combine
from shared_models.secure_sum.vector import Total, decode, layout

MOST_TRIES = 200
"""Sets of shares that are tried when one of them is wrong."""


@dataclass
class Outcome:
    """One attempt: the total, or none; of each site in the sum the bytes that it sent; of the others the code that says why they are not.

    E_SUM: all sent, but the total cannot be. E_UNMASK: too few helped to unmask it.
    """

    total: Total | None = None
    bytes: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class _Words:
    """The running sum, and what came with each site's part of it."""

    sum: State | None
    boxes: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    checks: dict[str, bytes] = field(default_factory=dict)

    def take(self, site: str, update: Update, group: Group) -> None:
        labels = {f"self/{other}": (SEALED_BYTES,) for other in group.sites if other != site} | {"check": (32,)}
        if self.sum is None:  # sums of a classical model: the first part says of which shapes
            self.sum = {key: np.zeros_like(value) for key, value in sorted(update.state.items())}
        same_layout(update.state, self.sum)
        shapes = {key: value.shape for key, value in update.extra.items() if value.dtype == np.uint8}
        if shapes != labels or len(update.extra) != len(labels) or any(value.dtype not in (np.uint32, np.uint64) for value in self.sum.values()):
            raise BadState("a masked update brings words and a sealed share for every other member")
        for key, value in self.sum.items():
            np.add(value, update.state[key], out=value)
        self.boxes[site] = {key.partition("/")[2]: value for key, value in update.extra.items() if key != "check"}
        self.checks[site] = update.extra["check"].tobytes()


class SecureSum:
    """The secure sums of one run.

    Parameters
    ----------
    experiment : Experiment
        With ``federation.secure_sum``.
    run : str
        Its identifier.
    certificate : dict or None
        The sites' signing keys under the consortium's signature; None in a simulation.
    """

    def __init__(self, experiment: Experiment, *, run: str, certificate: dict[str, Any] | None = None) -> None:
        settings = experiment.federation.secure_sum
        if settings is None:
            raise BadInput("the experiment must ask for the secure sum")
        self.experiment, self.settings, self.run, self.certificate = experiment, settings, run, certificate
        self.least = max(LEAST_SITES, experiment.federation.quorum)
        self._group: Group | None = None

    def sum(
        self,
        job: Job,
        ask: Ask,
        *,
        sites: Iterable[str],
        current: State | None,
        settings: Experiment | None = None,
        check: Callable[[State], State] | None = None,
    ) -> Outcome:
        """Ask `sites` for `job` (fit or judge) and return the unmasked total.

        Parameters
        ----------
        ask : callable
            The line to the sites.
        current : State or None
            Global weights whose changes are summed; None for exact sums and for metrics alone.
        settings : Experiment, optional
            The experiment as it holds in this round: its strategy says how sites weigh.
        check : callable, optional
            Returns the total as it may be used; raises BadState or Refused when it cannot be.
        """
        phases, outcome = Phases(ask, self.experiment.federation.deadline_s), Outcome()
        outcome.refused = phases.refused
        group = self._standing(job, phases, frozenset(sites))
        if group is not None:
            slot = group.slots.pop(0)
            job = replace(job, rule={**job.rule, "masks": {"group": group.name, "slot": slot, "sites": group.sites}})
            words = self._collect(job, phases, group, outcome, current if job.kind == "fit" else None)
            self._open(job, phases, group, slot, words, outcome, current if job.kind == "fit" else None, settings or self.experiment, check)
        if {"E_MASK_GROUP", "E_MASK_USED"} & set(outcome.refused.values()):
            self._group = None  # a site has lost its secrets: the next attempt begins with new ones
        return outcome

    def _standing(self, job: Job, phases: Phases, sites: frozenset[str]) -> Group | None:
        group = self._group
        if group is None or group.asked != sites or not group.slots:
            template = Job(run=self.run, round=job.round, kind="keys", experiment=self.experiment.for_sites().to_json())
            settings = self.settings
            self._group = form(
                phases, template, sites=sites, slots=settings.ahead, least=self.least, share=settings.threshold, certificate=self.certificate
            )
        return self._group

    def _collect(self, job: Job, phases: Phases, group: Group, outcome: Outcome, current: State | None) -> _Words:
        words = _Words(None if current is None else {key: np.zeros(shape, dtype) for key, (shape, dtype) in layout(current).items()})
        for site, update in phases.ask(dict.fromkeys(group.sites, job), self.experiment.federation.deadline_s):
            try:
                if isinstance(update, str):
                    outcome.refused[site] = update
                    continue
                words.take(site, update, group)
                outcome.bytes[site] = size_bytes(update.state) + size_bytes(update.extra)
            except BadState:
                outcome.refused[site] = "E_LAYOUT"
        return words

    def _open(
        self,
        job: Job,
        phases: Phases,
        group: Group,
        slot: int,
        words: _Words,
        outcome: Outcome,
        current: State | None,
        settings: Experiment,
        check: Callable[[State], State] | None,
    ) -> None:
        alive = sorted(words.boxes)
        if words.sum is None or len(alive) < max(self.least, group.threshold):
            return
        dead = sorted(set(group.sites) - set(alive))
        stage = replace(job, kind="unmask", state={}, rule={"group": group.name, "slot": slot, "alive": alive, "signatures": {}})
        if dead:
            agreed = phases.answers(dict.fromkeys(alive, replace(stage, kind="agree")))
            if len(agreed) < group.threshold:
                return
            stage = replace(stage, rule={**stage.rule, "signatures": {site: update.signature for site, update in agreed.items()}})
        jobs = {}
        for site in alive:
            boxes = {f"self/{other}": words.boxes[other][site] for other in alive if other != site}
            jobs[site] = replace(stage, extra=boxes | {f"key/{other}": group.boxes[other][site][slot] for other in dead})
        opened = {site: update.extra for site, update in phases.answers(jobs).items()}
        try:
            self._unmask(words.sum, group, slot=slot, alive=alive, dead=dead, opened=opened, checks=words.checks)
            total = decode(words.sum, current, settings, sites=len(group.adverts))
            if check is not None:
                total = replace(total, state=check(total.state))
        except (BadState, Refused) as error:
            code = "E_UNMASK" if error.code == "E_UNMASK" else "E_SUM"
            outcome.refused.update({site: outcome.refused.get(site, code) for site in alive})
            return
        outcome.total = total
        for site in alive:
            outcome.refused.pop(site, None)  # its update is in the sum, whether or not it helped to unmask

    def _unmask(
        self, words: State, group: Group, *, slot: int, alive: list[str], dead: list[str], opened: dict[str, State], checks: dict[str, bytes]
    ) -> None:
        purpose = mask_purpose(group.digest, slot=slot, sites=group.sites)
        for site in alive:
            seed = _rebuilt(group, f"self/{site}", opened, lambda found, site=site: self_mask_check(found) == checks[site])
            apply_mask(words, derived(seed, "own"), -1)
        for site in dead:
            secret = _rebuilt(group, f"key/{site}", opened, lambda found, site=site: public_key(found) == group.adverts[site].masks[slot])
            for other in alive:
                seed = agreed_key(secret, group.adverts[other].masks[slot], purpose)
                apply_mask(words, seed, -1 if other < site else 1)  # takes away what `other` had added or subtracted


def _rebuilt(group: Group, label: str, opened: dict[str, State], right: Callable[[bytes], bool]) -> bytes:
    """Return the secret that a threshold of shares gives and that is `right`; wrong shares of a few sites are outvoted."""
    places = {site: place for place, site in enumerate(sorted(group.adverts))}
    shares = {places[site]: extra[label].tobytes() for site, extra in opened.items() if label in extra and extra[label].nbytes == SECRET_BYTES}
    for chosen in itertools.islice(itertools.combinations(sorted(shares), group.threshold), MOST_TRIES):
        secret = combine({place: shares[place] for place in chosen})
        if right(secret):
            return secret
    raise Refused("a threshold of right shares is needed to unmask", value=len(shares), code="E_UNMASK")
