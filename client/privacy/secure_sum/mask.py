"""The masked update: the site's words, the streams that it shares with each peer, and a stream of its own."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from client.privacy.secure_sum.member import Member, group_in, masks_of, number_in
from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.messages import Job, Update
from shared_models.secure_sum.group import LEAST_SITES, mask_purpose, self_mask_check
from shared_models.secure_sum.masks import agreed_key, apply_mask, derived
from shared_models.secure_sum.shares import SECRET_BYTES, split


def member_count(member: Member, job: Job) -> int:
    """Return how many sites share the range of the sum that `job` asks for: all that have offered keys.

    Raises
    ------
    Refused
        E_MASK_GROUP.
    """
    members = member.store.need(job.run, group_in(masks_of(job))).get("members")
    if members is None:
        raise Refused("a site sums only with members whose keys it knows", code="E_MASK_GROUP")
    return len(members)


def masked(member: Member, job: Job, update: Update, words: State) -> Update:
    """Return `update` with masked words for its state and without any number that is one site's own; `words` are masked in place."""
    extra = mask(member, job, words)
    return replace(update, state=words, extra=extra, num_cases=0, steps=0, metrics={})


def mask(member: Member, job: Job, words: State) -> State:
    """Mask `words` in place for the slot that a fit or judge names; return the sealed shares of the own mask, to be sent along.

    A slot is used once: that it is, is on disk before this returns.

    Raises
    ------
    Refused
        E_MASK_GROUP, E_MASK_SITES, E_MASK_USED.
    """
    rule = masks_of(job)
    group = group_in(rule)
    kept = member.store.need(job.run, group)
    members = kept.get("members", {})
    sites = member.checked(rule.get("sites"), within=members, least=max(LEAST_SITES, kept.get("threshold", LEAST_SITES)))
    slot = number_in(rule, "slot", below=len(kept["mask"]))
    if str(slot) in kept["slots"]:
        raise Refused("a slot masks one update", value=slot, code="E_MASK_USED")
    names, own = sorted(members), os.urandom(SECRET_BYTES)
    shares = dict(zip(names, split(own, threshold=kept["threshold"], sites=len(names)), strict=True))
    peers = [name for name in sites if name != member.site]
    boxes = {name: member.sealed(shares[name], kept, bytes.fromhex(members[name]["seal"]), kind="self", slot=slot, to=name) for name in peers}
    secret, purpose = bytes.fromhex(kept["mask"][slot]), mask_purpose(kept["digest"], slot=slot, sites=sites)
    seeds = {name: agreed_key(secret, bytes.fromhex(members[name]["masks"][slot]), purpose) for name in peers}
    kept["slots"][str(slot)] = {"round": job.round, "kind": job.kind, "sites": sites, "share": shares[member.site].hex()}
    kept["mask"][slot] = ""  # its shares are with the peers; here it is needed no more
    member.store.write(job.run, group, kept)
    apply_mask(words, derived(own, "own"), 1)
    for name, seed in seeds.items():
        apply_mask(words, seed, 1 if member.site < name else -1)
    extra = {f"self/{name}": np.frombuffer(box, np.uint8) for name, box in boxes.items()}
    return {**extra, "check": np.frombuffer(self_mask_check(own), np.uint8)}
