"""The server's half of the secure sum (`shared_models/secure_sum`): it carries keys and sealed shares about, adds masked words, and unmasks the
total. It never holds an update of one site.

A group is formed when the roster or the supply of slots asks for it; each attempt at a round takes a slot. What the server keeps of a group is
worthless without the sites, so nothing of it outlives the process: a resumed run forms a new group.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, BadState, Refused
from shared_models.core.state import same_layout, size_bytes
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.secure_sum.group import LEAST_SITES, Advert, group_digest, mask_purpose, self_mask_check, threshold_of
from shared_models.secure_sum.masks import agreed_key, apply_mask, derived, public_key
from shared_models.secure_sum.shares import SEALED_BYTES, SECRET_BYTES, combine
from shared_models.secure_sum.vector import Total, decode, layout

Ask = Callable[[Mapping[str, Job], float], Iterator[tuple[str, "Update | str"]]]
"""``ask(jobs by site, timeout_s)`` yields each site's answer, checked to be its own and of this round, or the code of its refusal."""

PHASE_S = 300.0
"""Seconds that a stage without training may take."""

MOST_TRIES = 200
"""Sets of shares that are tried when one of them is wrong."""


@dataclass
class Group:
    """Sites that have exchanged keys: their adverts, the sealed shares of their keys by owner and receiver, and the slots that are left."""

    name: str
    adverts: dict[str, Advert]
    threshold: int
    digest: str
    boxes: dict[str, dict[str, np.ndarray]]
    slots: Iterator[int]
    asked: frozenset[str]

    @property
    def sites(self) -> list[str]:
        """Members whose shares are there, in order."""
        return sorted(self.boxes)


@dataclass
class Outcome:
    """One attempt: the total, or none; and of each site the bytes that it sent or the code that says why it is not in the sum."""

    total: Total | None = None
    bytes: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


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
        self.text = experiment.for_sites().to_json()
        self._group: Group | None = None

    def sum(self, job: Job, ask: Ask, *, sites: Iterable[str], current: State | None, check: Callable[[State], None] | None = None) -> Outcome:
        """Ask `sites` for `job` (fit or judge) and return the unmasked total.

        Parameters
        ----------
        ask : callable
            The line to the sites.
        current : State or None
            Global weights whose changes are summed; None for exact sums and for metrics alone.
        check : callable, optional
            Raises BadState when the total cannot be.
        """
        outcome = Outcome()
        self._attempt(job, ask, frozenset(sites), current, check, outcome)
        if {"E_MASK_GROUP", "E_MASK_USED"} & set(outcome.refused.values()):
            self._group = None  # a site has lost its secrets: the next attempt begins with new ones
        return outcome

    def _attempt(
        self, job: Job, ask: Ask, wanted: frozenset[str], current: State | None, check: Callable[[State], None] | None, outcome: Outcome
    ) -> None:
        group = self._standing(wanted) or self._form(job.round, ask, wanted, outcome)
        slot = None if group is None else next(group.slots, None)
        if group is None or slot is None:
            return
        job = replace(job, rule={**job.rule, "masks": {"group": group.name, "slot": slot, "sites": group.sites}})
        words: State | None = (
            None if current is None or job.kind == "judge" else {key: np.zeros(shape, dtype) for key, (shape, dtype) in layout(current).items()}
        )
        selves: dict[str, dict[str, np.ndarray]] = {}
        checks: dict[str, bytes] = {}
        for site, update in ask(dict.fromkeys(group.sites, job), self.experiment.federation.deadline_s):
            if isinstance(update, str):
                outcome.refused[site] = update
                continue
            try:
                if words is None:
                    words = {key: np.zeros_like(value) for key, value in sorted(update.state.items())}
                self._take(site, update, words, group)
            except (BadState, Refused):
                outcome.refused[site] = "E_LAYOUT"
                continue
            selves[site] = {key.partition("/")[2]: value for key, value in update.extra.items() if key != "check"}
            checks[site] = update.extra["check"].tobytes()
            outcome.bytes[site] = size_bytes(update.state) + size_bytes(update.extra)
        alive = sorted(selves)
        if words is None or len(alive) < max(self.least, group.threshold):
            return
        dead = sorted(set(group.sites) - set(alive))
        stage = replace(job, state={}, rule={"group": group.name, "slot": slot, "alive": alive})
        signatures = self._agreed(stage, ask, group, outcome) if dead else {}
        if signatures is None:
            return
        jobs = {}
        for site in alive:
            boxes = {f"self/{other}": selves[other][site] for other in alive if other != site}
            boxes |= {f"key/{other}": group.boxes[other][site][slot] for other in dead}
            jobs[site] = replace(stage, kind="unmask", rule={**stage.rule, "signatures": signatures}, extra=boxes)
        opened = self._answers(ask, jobs, outcome)
        try:
            self._unmask(words, group, slot=slot, alive=alive, dead=dead, opened=opened, checks=checks)
            total = decode(words, current if job.kind == "fit" else None, self.experiment, sites=len(group.adverts))
            if check is not None:
                check(total.state)
        except (BadState, Refused):
            outcome.refused |= dict.fromkeys(alive, "E_SUM")
            return
        outcome.total = total
        for site in alive:
            outcome.refused.pop(site, None)  # its update is in the sum, whether or not it helped to unmask

    # --- forming a group ------------------------------------------------------------------------------------------------------------------

    def _standing(self, wanted: frozenset[str]) -> Group | None:
        group = self._group
        if group is None or group.asked != wanted:
            return None
        slots = list(group.slots)
        group.slots = iter(slots)
        return group if slots else None

    def _form(self, round: int, ask: Ask, wanted: frozenset[str], outcome: Outcome) -> Group | None:
        self._group = None
        name, slots = secrets.token_hex(8), self.settings.ahead
        job = Job(run=self.run, round=round, kind="keys", experiment=self.text, rule={"group": name, "slots": slots})
        adverts: dict[str, Advert] = {}
        for site, extra in self._answers(ask, dict.fromkeys(sorted(wanted), job), outcome).items():
            try:
                signature = extra["signature"].tobytes().decode("ascii") if "signature" in extra else ""
                advert = Advert.read(extra.get("mask"), extra.get("seal"), signature)
            except (BadInput, ValueError):
                outcome.refused[site] = "E_MASK_KEYS"
                continue
            if len(advert.masks) == slots:
                adverts[site] = advert
        if len(adverts) < self.least:
            return None
        threshold = threshold_of(len(adverts), self.settings.threshold)
        digest = group_digest(adverts, run=self.run, group=name, threshold=threshold)
        keys = {f"{kind}/{site}": array for site, advert in adverts.items() for kind, array in advert.arrays().items()}
        rule = {"group": name, "signatures": {site: advert.signature for site, advert in adverts.items()}, "certificate": self.certificate}
        job = replace(job, kind="shares", rule=rule, extra=keys)
        boxes: dict[str, dict[str, np.ndarray]] = {}
        for site, extra in self._answers(ask, dict.fromkeys(sorted(adverts), job), outcome).items():
            good = all(array.dtype == np.uint8 and array.shape == (slots, SEALED_BYTES) for array in extra.values())
            if good and extra.keys() == adverts.keys() - {site}:
                boxes[site] = dict(extra)
            else:
                outcome.refused[site] = "E_LAYOUT"
        if len(boxes) < max(self.least, threshold):
            return None
        self._group = Group(name, adverts, threshold, digest, boxes, iter(range(slots)), wanted)
        return self._group

    def _answers(self, ask: Ask, jobs: Mapping[str, Job], outcome: Outcome) -> dict[str, State]:
        found = {}
        for site, update in ask(jobs, min(PHASE_S, self.experiment.federation.deadline_s)):
            if isinstance(update, str):
                outcome.refused[site] = update
            else:
                found[site] = update.extra
        return found

    # --- adding and unmasking ---------------------------------------------------------------------------------------------------------------

    def _take(self, site: str, update: Update, words: State, group: Group) -> None:
        same_layout(update.state, words)
        labels = {f"self/{other}": (SEALED_BYTES,) for other in group.sites if other != site} | {"check": (32,)}
        shapes = {key: value.shape for key, value in update.extra.items() if value.dtype == np.uint8}
        if shapes != labels or len(update.extra) != len(labels) or any(value.dtype not in (np.uint32, np.uint64) for value in words.values()):
            raise BadState("a masked update brings words and a sealed share for every other member")
        for key, value in words.items():
            np.add(value, update.state[key], out=value)

    def _agreed(self, stage: Job, ask: Ask, group: Group, outcome: Outcome) -> dict[str, str] | None:
        signatures: dict[str, str] = {}
        jobs = dict.fromkeys(stage.rule["alive"], replace(stage, kind="agree"))
        for site, update in ask(jobs, min(PHASE_S, self.experiment.federation.deadline_s)):
            if isinstance(update, str):
                outcome.refused[site] = update
            else:
                signatures[site] = update.signature
        return signatures if len(signatures) >= group.threshold else None

    def _unmask(
        self, words: State, group: Group, *, slot: int, alive: list[str], dead: list[str], opened: dict[str, State], checks: dict[str, bytes]
    ) -> None:
        purpose = mask_purpose(group.digest, slot=slot, sites=group.sites)
        for site in alive:
            seed = self._rebuild(group, f"self/{site}", opened, lambda found, site=site: self_mask_check(found) == checks[site])
            apply_mask(words, derived(seed, "own"), -1)
        for site in dead:
            secret = self._rebuild(group, f"key/{site}", opened, lambda found, site=site: public_key(found) == group.adverts[site].masks[slot])
            for other in alive:
                seed = agreed_key(secret, group.adverts[other].masks[slot], purpose)
                apply_mask(words, seed, -1 if other < site else 1)  # takes away what `other` had added or subtracted

    def _rebuild(self, group: Group, label: str, opened: dict[str, State], right: Callable[[bytes], bool]) -> bytes:
        places = {site: place for place, site in enumerate(sorted(group.adverts))}
        shares = {places[site]: extra[label].tobytes() for site, extra in opened.items() if label in extra and extra[label].nbytes == SECRET_BYTES}
        for chosen in itertools.islice(itertools.combinations(sorted(shares), group.threshold), MOST_TRIES):
            secret = combine({place: shares[place] for place in chosen})
            if right(secret):
                return secret
        raise Refused("a threshold of right shares is needed to unmask", value=len(shares), code="E_SUM")
