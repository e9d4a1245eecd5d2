"""Forming a group for secure sums: keys are collected and handed round, sealed shares of the secret halves come back.

What the server keeps of a group is worthless without the sites, so nothing of it outlives the process: a resumed run forms a new group.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadInput
from shared_models.messages import Job, Update
from shared_models.secure_sum.group import Advert, advert_bytes, group_digest, threshold_of
from shared_models.secure_sum.shares import SEALED_BYTES
from shared_models.signing import verifies

Ask = Callable[[Mapping[str, Job], float], Iterator[tuple[str, "Update | str"]]]
"""``ask(jobs by site, timeout_s)`` yields each site's answer, checked to be its own and of this round, or the code of its refusal."""

PHASE_S = 300.0
"""Seconds that a stage without training may take."""


@dataclass
class Group:
    """Sites that have exchanged keys.

    Parameters
    ----------
    name : str
        Drawn at random.
    adverts : dict
        Public keys of all members.
    threshold, digest : int, str
        What all members must see alike.
    boxes : dict
        Sealed shares of the members' keys by owner and receiver, (slots, bytes); who is not in it has given none and is not asked further.
    slots : list of int
        Slots that are left.
    asked : frozenset of str
        The roster for which the group was formed.
    """

    name: str
    adverts: dict[str, Advert]
    threshold: int
    digest: str
    boxes: dict[str, dict[str, np.ndarray]]
    slots: list[int]
    asked: frozenset[str]

    @property
    def sites(self) -> list[str]:
        """Members whose shares are there, in order."""
        return sorted(self.boxes)


@dataclass
class Phases:
    """The line to the sites, and the refusals of all stages by site."""

    ask: Ask
    timeout_s: float
    refused: dict[str, str] = field(default_factory=dict)

    def answers(self, jobs: Mapping[str, Job]) -> dict[str, Update]:
        """Ask each site for a stage without training and return the answers."""
        found = {}
        for site, update in self.ask(jobs, min(PHASE_S, self.timeout_s)):
            if isinstance(update, str):
                self.refused[site] = update
            else:
                found[site] = update
        return found


def form(
    phases: Phases, template: Job, *, sites: frozenset[str], slots: int, least: int, share: float | None, certificate: dict[str, Any] | None
) -> Group | None:
    """Form a group of `sites`, None when fewer than `least` take part.

    Parameters
    ----------
    template : Job
        Run, round and experiment of the stages.
    slots : int
        Attempts that the keys serve.
    share : float or None
        Of the members that must help to unmask.
    certificate : dict or None
        The roster certificate; None in a simulation.
    """
    name = secrets.token_hex(8)
    job = replace(template, kind="keys", rule={"group": name, "slots": slots})
    adverts: dict[str, Advert] = {}
    seen: set[bytes] = set()
    for site, update in sorted(phases.answers(dict.fromkeys(sorted(sites), job)).items()):
        advert = _advert(update, site=site, group=name, certificate=certificate)
        keys = set() if advert is None else {*advert.masks, advert.seal}
        # What its peers would refuse is left out here, or one bad site would spoil the group for all.
        if advert is None or len(advert.masks) != slots or len(keys) != slots + 1 or keys & seen:
            phases.refused[site] = "E_MASK_KEYS"
            continue
        seen |= keys
        adverts[site] = advert
    if len(adverts) < least:
        return None
    threshold = threshold_of(len(adverts), share)
    arrays: State = {f"{kind}/{site}": array for site, advert in adverts.items() for kind, array in advert.arrays().items()}
    rule = {"group": name, "signatures": {site: advert.signature for site, advert in adverts.items()}, "certificate": certificate}
    job = replace(job, kind="shares", rule=rule, extra=arrays)
    boxes: dict[str, dict[str, np.ndarray]] = {}
    for site, update in phases.answers(dict.fromkeys(sorted(adverts), job)).items():
        good = all(array.dtype == np.uint8 and array.shape == (slots, SEALED_BYTES) for array in update.extra.values())
        if good and update.extra.keys() == adverts.keys() - {site}:
            boxes[site] = dict(update.extra)
        else:
            phases.refused[site] = "E_LAYOUT"
    if len(boxes) < max(least, threshold):
        return None
    digest = group_digest(adverts, run=template.run, group=name, threshold=threshold)
    return Group(name, adverts, threshold, digest, boxes, list(range(slots)), sites)


def _advert(update: Update, *, site: str, group: str, certificate: dict[str, Any] | None) -> Advert | None:
    try:
        text = update.extra["signature"].tobytes().decode("ascii") if "signature" in update.extra else ""
        advert = Advert.read(update.extra.get("mask"), update.extra.get("seal"), text)
    except (BadInput, ValueError):
        return None
    if certificate is None:
        return advert
    signed = advert_bytes(advert, run=update.run, round=update.round, site=site, group=group)
    return advert if verifies(certificate["sites"].get(site, ""), signed, text) else None
