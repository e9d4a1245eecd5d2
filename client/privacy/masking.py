"""The site's half of the secure sum (`shared_models/secure_sum`): keys, shares, masks, and the rules that no server can talk it out of.

- At least three members, and as many survivors as the threshold, a strict majority, and the experiment's quorum ask for.
- Keys of peers count only with the signature of the peer's signing key, which the consortium certified.
- One masked update a slot; one list of survivors a slot; one set of survivors a round of a run, whatever slot it is tried in.
- Of a peer who answered the share of its own mask is opened, of one who did not the share of its key; of none both. Shares of keys are opened
  only with the signatures of a threshold of survivors under the same list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from client.privacy.mask_store import MaskStore
from client.privacy.peers import Peers
from shared_models.core.arrays import State
from shared_models.core.errors import BadInput, Refused
from shared_models.experiment import SecureSum
from shared_models.messages import Job, Update
from shared_models.papers import is_name
from shared_models.secure_sum.group import (
    LEAST_SITES,
    MOST_AHEAD,
    Advert,
    advert_bytes,
    agreement_bytes,
    box_context,
    group_digest,
    mask_purpose,
    self_mask_check,
    statement_of,
    threshold_of,
    word_array,
)
from shared_models.secure_sum.masks import agreed_key, apply_mask, derived, public_key
from shared_models.secure_sum.shares import SEALED_BYTES, SECRET_BYTES, seal, split, unseal
from shared_models.signing import sign, verifies


@dataclass(frozen=True)
class Masking:
    """One site in secure sums.

    Parameters
    ----------
    store : MaskStore
        Secrets between the stages.
    site : str
        Its name.
    key : bytes or None
        Its signing key; None in a simulation, where nobody signs.
    peers : Peers or None
        The others' signing keys; None in a simulation.
    """

    store: MaskStore
    site: str
    key: bytes | None = None
    peers: Peers | None = None

    @staticmethod
    def of(workspace: Path, site: str, *, key: bytes | None, peers: Peers | None) -> Masking:
        """Return the masking of a site that keeps its secrets in ``workspace/secure-sum``."""
        return Masking(MaskStore(workspace / "secure-sum"), site, key, peers)

    def stage(self, job: Job, settings: SecureSum, *, quorum: int) -> State:
        """Return the arrays that answer a job of the kind keys, shares, agree or unmask.

        Raises
        ------
        Refused
            E_MASK_GROUP, E_MASK_KEYS, E_MASK_SITES, E_MASK_USED, E_MASK_ROUND, E_MASK_SIGNATURE, E_PEER_KEY.
        """
        if job.kind == "keys":
            return self._keys(job)
        if job.kind == "shares":
            return self._shares(job, settings)
        return self._agree(job, quorum) if job.kind == "agree" else self._unmask(job, quorum)

    # --- keys and shares: once for several rounds -----------------------------------------------------------------------------------

    def _keys(self, job: Job) -> State:
        group, slots = _text(job, "group"), _number(job, "slots", least=1, most=MOST_AHEAD)
        kept = self.store.read(job.run, group)
        if kept is None:
            secrets = [os.urandom(SECRET_BYTES) for _ in range(slots + 1)]
            masks = tuple(public_key(secret) for secret in secrets[:-1])
            advert = Advert(masks, public_key(secrets[-1]))
            kept = {
                "round": job.round,
                "mask": [secret.hex() for secret in secrets[:-1]],
                "seal": secrets[-1].hex(),
                "own": _plain(advert, self._signature(advert_bytes(advert, run=job.run, round=job.round, site=self.site, group=group))),
                "slots": {},
            }
            self.store.begin(job.run, group, kept)
        if len(kept["own"]["masks"]) != slots or kept["round"] != job.round:
            raise Refused("a group keeps its keys", code="E_MASK_USED")
        advert = _advert(kept["own"])
        return {**advert.arrays(), "signature": word_array(advert.signature)}

    def _shares(self, job: Job, settings: SecureSum) -> State:
        group = _text(job, "group")
        kept = self.store.need(job.run, group)
        adverts = self._adverts(job, group, kept)
        threshold = threshold_of(len(adverts), settings.threshold)
        digest = group_digest(adverts, run=job.run, group=group, threshold=threshold)
        if "digest" not in kept:
            names = sorted(adverts)
            boxes: dict[str, list[str]] = {name: [] for name in names if name != self.site}
            for slot, secret in enumerate(kept["mask"]):
                for name, share in zip(names, split(bytes.fromhex(secret), threshold=threshold, sites=len(names)), strict=True):
                    if name != self.site:
                        boxes[name].append(self._seal(share, kept, adverts[name], digest, kind="key", slot=slot, to=name).hex())
            kept |= {"digest": digest, "threshold": threshold, "boxes": boxes}
            kept["members"] = {name: {"seal": advert.seal.hex(), "masks": [key.hex() for key in advert.masks]} for name, advert in adverts.items()}
            self.store.write(job.run, group, kept)
        if kept["digest"] != digest:
            raise Refused("a group's members are named once", code="E_MASK_USED")
        return {name: np.frombuffer(bytes.fromhex("".join(boxes)), np.uint8).reshape(-1, SEALED_BYTES) for name, boxes in kept["boxes"].items()}

    def _adverts(self, job: Job, group: str, kept: dict[str, Any]) -> dict[str, Advert]:
        signatures = job.rule.get("signatures")
        names = sorted({name.partition("/")[2] for name in job.extra})
        if not isinstance(signatures, dict) or not all(is_name(name) for name in names) or self.site not in names:
            raise Refused("the members of a group are sites by name, this one among them", code="E_MASK_SITES")
        if len(names) < LEAST_SITES:
            raise Refused(f"at least {LEAST_SITES} sites sum together", value=len(names), code="E_MASK_SITES")
        try:
            adverts = {
                name: Advert.read(job.extra.get(f"mask/{name}"), job.extra.get(f"seal/{name}"), str(signatures.get(name, ""))) for name in names
            }
        except BadInput as error:
            raise Refused(error.rule, code="E_MASK_KEYS") from None
        own = _advert(kept["own"])
        keys = [key for advert in adverts.values() for key in (*advert.masks, advert.seal)]
        if len(job.extra) != 2 * len(names) or len(set(keys)) != len(keys) or any(len(one.masks) != len(own.masks) for one in adverts.values()):
            raise Refused("every member brings keys of its own, one for each slot", code="E_MASK_KEYS")
        if adverts[self.site].arrays()["mask"].tobytes() != own.arrays()["mask"].tobytes() or adverts[self.site].seal != own.seal:
            raise Refused("a site's own keys come back as it gave them", code="E_MASK_KEYS")
        if self.peers is not None:
            certified = self.peers.accept(job.rule.get("certificate"), run=job.run)
            for name, advert in adverts.items():
                text = advert_bytes(advert, run=job.run, round=kept["round"], site=name, group=group)
                if not verifies(certified.get(name, ""), text, advert.signature):
                    raise Refused("a peer's keys are signed with its certified signing key", value=name, code="E_MASK_SIGNATURE")
            kept["signing"] = {name: certified[name] for name in names}
        return adverts

    # --- the masked update -------------------------------------------------------------------------------------------------------------

    def members(self, job: Job) -> int:
        """Return how many sites share the range of the sum that `job` asks for: all that have offered keys."""
        members = self.store.need(job.run, str(_masks(job).get("group"))).get("members")
        if members is None:
            raise Refused("a site sums only with members whose keys it knows", code="E_MASK_GROUP")
        return len(members)

    def mask(self, job: Job, words: State) -> State:
        """Mask `words` in place for the slot that a fit or judge names; return the sealed shares of the own mask, to be sent along.

        On disk before this returns: a slot is used once.
        """
        rule = _masks(job)
        group, slot, sites = str(rule.get("group")), rule.get("slot"), rule.get("sites")
        kept = self.store.need(job.run, group)
        members = kept.get("members", {})
        sites = self._names(sites, within=members, least=max(LEAST_SITES, kept.get("threshold", LEAST_SITES)))
        if not isinstance(slot, int) or isinstance(slot, bool) or not 0 <= slot < len(kept["mask"]):
            raise Refused("a slot is one of the group's", code="E_MASK_GROUP")
        if str(slot) in kept["slots"]:
            raise Refused("a slot masks one update", value=slot, code="E_MASK_USED")
        names, own = sorted(members), os.urandom(SECRET_BYTES)
        shares = dict(zip(names, split(own, threshold=kept["threshold"], sites=len(names)), strict=True))
        boxes = {}
        for name in sites:
            if name != self.site:
                box = self._seal(shares[name], kept, _advert({**members[name], "signature": ""}), kept["digest"], kind="self", slot=slot, to=name)
                boxes[f"self/{name}"] = np.frombuffer(box, np.uint8)
        secret, purpose = bytes.fromhex(kept["mask"][slot]), mask_purpose(kept["digest"], slot=slot, sites=sites)
        seeds = {name: agreed_key(secret, bytes.fromhex(members[name]["masks"][slot]), purpose) for name in sites if name != self.site}
        kept["slots"][str(slot)] = {"round": job.round, "kind": job.kind, "sites": sites, "share": shares[self.site].hex()}
        kept["mask"][slot] = ""  # its shares are with the peers; here it is needed no more
        self.store.write(job.run, group, kept)
        apply_mask(words, derived(own, "own"), 1)
        for name, seed in seeds.items():
            apply_mask(words, seed, 1 if self.site < name else -1)
        return {**boxes, "check": np.frombuffer(self_mask_check(own), np.uint8)}

    # --- unmasking -----------------------------------------------------------------------------------------------------------------------

    def _agree(self, job: Job, quorum: int) -> State:
        kept, slot, alive = self._asked(job, quorum)
        statement = statement_of(kept["digest"], slot=int(_number(job, "slot")), sites=slot["sites"], alive=alive)
        if slot.setdefault("agreed", alive) != alive or slot.get("told", alive) != alive:
            raise Refused("a site agrees to one list of survivors", code="E_MASK_USED")
        self.store.write(job.run, _text(job, "group"), kept)
        return {"agreed": word_array(statement)}

    def _unmask(self, job: Job, quorum: int) -> State:
        kept, slot, alive = self._asked(job, quorum)
        number, members = _number(job, "slot"), kept["members"]
        if slot.setdefault("told", alive) != alive or slot.get("agreed", alive) != alive:
            raise Refused("a round is unmasked for one list of survivors", code="E_MASK_USED")
        dead = sorted(set(slot["sites"]) - set(alive))
        if dead and self.peers is not None:
            statement = statement_of(kept["digest"], slot=number, sites=slot["sites"], alive=alive)
            signatures = job.rule.get("signatures")
            given = signatures if isinstance(signatures, dict) else {}
            agreed = [
                name
                for name in alive
                if verifies(kept["signing"][name], agreement_bytes(statement, run=job.run, round=job.round, site=name), str(given.get(name, "")))
            ]
            if len(agreed) < kept["threshold"]:
                raise Refused("a threshold of survivors signs the list", value=len(agreed), code="E_MASK_SIGNATURE")
        wanted = {f"key/{name}" for name in dead} | {f"self/{name}" for name in alive if name != self.site}
        if not job.extra.keys() <= wanted:
            raise Refused("of each peer one kind of share is opened", code="E_MASK_SITES")
        name = f"{job.round}/{slot['kind']}"
        if self.store.unmasked(job.run).get(name, alive) != alive:
            raise Refused("a round is opened for one set of sites: two sums that differ in one site show its update", code="E_MASK_ROUND")
        self.store.note_unmasked(job.run, name, alive)
        self.store.write(job.run, _text(job, "group"), kept)
        opened: State = {f"self/{self.site}": np.frombuffer(bytes.fromhex(slot["share"]), np.uint8)}
        for label in sorted(job.extra):
            kind, _, peer = label.partition("/")
            key = agreed_key(bytes.fromhex(kept["seal"]), bytes.fromhex(members[peer]["seal"]), "seal")
            context = box_context(kept["digest"], kind=kind, slot=number, sender=peer, receiver=self.site)
            share = unseal(job.extra[label].tobytes(), key, context)
            if share is not None and len(share) == SECRET_BYTES:
                opened[label] = np.frombuffer(share, np.uint8)
        return opened

    def _asked(self, job: Job, quorum: int) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        kept = self.store.need(job.run, _text(job, "group"))
        slot = kept["slots"].get(str(_number(job, "slot")))
        if slot is None or slot["round"] != job.round:
            raise Refused("a site helps to unmask what it has masked", code="E_MASK_GROUP")
        alive = self._names(job.rule.get("alive"), within=slot["sites"], least=max(LEAST_SITES, kept["threshold"], quorum))
        return kept, slot, alive

    def _names(self, names: Any, *, within: Mapping[str, Any] | Sequence[str], least: int) -> list[str]:
        if not isinstance(names, list) or not all(isinstance(name, str) and name in within for name in names) or names != sorted(set(names)):
            raise Refused("sites are named in order, each once, and belong to the group", code="E_MASK_SITES")
        if self.site not in names or len(names) < least:
            raise Refused("a site sums only with enough others", value=len(names), code="E_MASK_SITES")
        return names

    def _seal(self, share: bytes, kept: dict[str, Any], to_advert: Advert, digest: str, *, kind: str, slot: int, to: str) -> bytes:
        key = agreed_key(bytes.fromhex(kept["seal"]), to_advert.seal, "seal")
        return seal(share, key, box_context(digest, kind=kind, slot=slot, sender=self.site, receiver=to))

    def _signature(self, text: bytes) -> str:
        return "" if self.key is None else sign(self.key, text)


def masked(masking: Masking, job: Job, update: Update, words: State) -> Update:
    """Return `update` with masked words for its state and without any number that is one site's own."""
    extra = masking.mask(job, words)
    return replace(update, state=words, extra=extra, num_cases=0, steps=0, metrics={})


def _masks(job: Job) -> dict[str, Any]:
    rule = job.rule.get("masks")
    return rule if isinstance(rule, dict) else {}


def _plain(advert: Advert, signature: str) -> dict[str, Any]:
    return {"masks": [key.hex() for key in advert.masks], "seal": advert.seal.hex(), "signature": signature}


def _advert(plain: dict[str, Any]) -> Advert:
    return Advert(tuple(bytes.fromhex(key) for key in plain["masks"]), bytes.fromhex(plain["seal"]), plain["signature"])


def _text(job: Job, name: str) -> str:
    value = job.rule.get(name)
    if not isinstance(value, str):
        raise Refused("a stage of the secure sum names its group", code="E_MASK_GROUP")
    return value


def _number(job: Job, name: str, *, least: int = 0, most: int = MOST_AHEAD) -> int:
    value = job.rule.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refused("a stage of the secure sum counts its slots", code="E_MASK_GROUP")
    return value
