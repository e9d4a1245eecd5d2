"""Keys and shares: exchanged once, for several rounds."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from client.privacy.secure_sum.member import Member, group_in, number_in
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, Refused
from shared_models.experiment import SecureSum
from shared_models.messages import Job
from shared_models.papers import is_name
from shared_models.secure_sum.group import LEAST_SITES, Advert, advert_bytes, group_digest, threshold_of, word_array
from shared_models.secure_sum.masks import public_key
from shared_models.secure_sum.shares import SEALED_BYTES, SECRET_BYTES, split
from shared_models.signing import verifies


def offer_keys(member: Member, job: Job) -> State:
    """Make this site's keys for a group, or give them again.

    Raises
    ------
    Refused
        E_MASK_GROUP, E_MASK_USED.
    """
    group, slots = group_in(job.rule), number_in(job.rule, "slots", least=1)
    kept = member.store.read(job.run, group)
    if kept is None:
        secrets = [os.urandom(SECRET_BYTES) for _ in range(slots + 1)]
        masks = tuple(public_key(secret) for secret in secrets[:-1])
        advert = Advert(masks, public_key(secrets[-1]))
        kept = {
            "round": job.round,
            "mask": [secret.hex() for secret in secrets[:-1]],
            "seal": secrets[-1].hex(),
            "own": _plain(advert, member.signature(advert_bytes(advert, run=job.run, round=job.round, site=member.site, group=group))),
            "slots": {},
        }
        member.store.begin(job.run, group, kept)
    if len(kept["own"]["masks"]) != slots or kept["round"] != job.round:
        raise Refused("a group keeps its keys", code="E_MASK_USED")
    advert = _advert(kept["own"])
    return {**advert.arrays(), "signature": word_array(advert.signature)}


def share_keys(member: Member, job: Job, settings: SecureSum) -> State:
    """Check the members of a group and return a sealed share of each of this site's secret keys for each peer.

    Raises
    ------
    Refused
        E_MASK_SITES, E_MASK_KEYS, E_MASK_SIGNATURE, E_MASK_USED, E_MASK_GROUP, E_PEER_KEY, E_SIGNATURE.
    """
    group = group_in(job.rule)
    kept = member.store.need(job.run, group)
    adverts = _adverts(member, job, group, kept)
    threshold = threshold_of(len(adverts), settings.threshold)
    digest = group_digest(adverts, run=job.run, group=group, threshold=threshold)
    if "digest" not in kept:
        kept |= {"digest": digest, "threshold": threshold}
        names = sorted(adverts)
        boxes: dict[str, list[str]] = {name: [] for name in names if name != member.site}
        for slot, secret in enumerate(kept["mask"]):
            for name, share in zip(names, split(bytes.fromhex(secret), threshold=threshold, sites=len(names)), strict=True):
                if name != member.site:
                    boxes[name].append(member.sealed(share, kept, adverts[name].seal, kind="key", slot=slot, to=name).hex())
        kept["boxes"] = boxes
        kept["members"] = {name: {"seal": advert.seal.hex(), "masks": [key.hex() for key in advert.masks]} for name, advert in adverts.items()}
        member.store.write(job.run, group, kept)
    if kept["digest"] != digest:
        raise Refused("a group's members are named once", code="E_MASK_USED")
    return {name: np.frombuffer(bytes.fromhex("".join(boxes)), np.uint8).reshape(-1, SEALED_BYTES) for name, boxes in kept["boxes"].items()}


def _adverts(member: Member, job: Job, group: str, kept: dict[str, Any]) -> dict[str, Advert]:
    signatures = job.rule.get("signatures")
    names = sorted({name.partition("/")[2] for name in job.extra})
    if not isinstance(signatures, dict) or not all(is_name(name) for name in names) or member.site not in names:
        raise Refused("the members of a group are sites by name, this one among them", code="E_MASK_SITES")
    if len(names) < LEAST_SITES:
        raise Refused(f"at least {LEAST_SITES} sites sum together", value=len(names), code="E_MASK_SITES")
    try:
        adverts = {name: Advert.read(job.extra.get(f"mask/{name}"), job.extra.get(f"seal/{name}"), str(signatures.get(name, ""))) for name in names}
    except BadInput as error:
        raise Refused(error.rule, code="E_MASK_KEYS") from None
    own = _advert(kept["own"])
    keys = [key for advert in adverts.values() for key in (*advert.masks, advert.seal)]
    if len(job.extra) != 2 * len(names) or len(set(keys)) != len(keys) or any(len(one.masks) != len(own.masks) for one in adverts.values()):
        raise Refused("every member brings keys of its own, one for each slot", code="E_MASK_KEYS")
    if adverts[member.site].arrays()["mask"].tobytes() != own.arrays()["mask"].tobytes() or adverts[member.site].seal != own.seal:
        raise Refused("a site's own keys come back as it gave them", code="E_MASK_KEYS")
    if member.peers is not None:
        certified = member.peers.accept(job.rule.get("certificate"), run=job.run)
        for name, advert in adverts.items():
            text = advert_bytes(advert, run=job.run, round=kept["round"], site=name, group=group)
            if not verifies(certified.get(name, ""), text, advert.signature):
                raise Refused("a peer's keys are signed with its certified signing key", value=name, code="E_MASK_SIGNATURE")
        kept["signing"] = {name: certified[name] for name in names}
    return adverts


def _plain(advert: Advert, signature: str) -> dict[str, Any]:
    return {"masks": [key.hex() for key in advert.masks], "seal": advert.seal.hex(), "signature": signature}


def _advert(plain: dict[str, Any]) -> Advert:
    return Advert(tuple(bytes.fromhex(key) for key in plain["masks"]), bytes.fromhex(plain["seal"]), plain["signature"])
