"""Unmasking: what a site opens, for one list of survivors, and what that list must bear."""

from __future__ import annotations

from typing import Any

import numpy as np

from client.privacy.secure_sum.member import Member, group_in, number_in
from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.messages import Job
from shared_models.secure_sum.group import LEAST_SITES, agreement_bytes, statement_of, word_array
from shared_models.secure_sum.shares import SECRET_BYTES
from shared_models.signing import verifies


def agree(member: Member, job: Job, quorum: int) -> State:
    """Return the statement that stands for a list of survivors: the site's signature of this answer is its agreement.

    Raises
    ------
    Refused
        E_MASK_GROUP, E_MASK_SITES, E_MASK_USED.
    """
    kept, slot, alive = _asked(member, job, quorum)
    if slot.setdefault("agreed", alive) != alive or slot.get("told", alive) != alive:
        raise Refused("a site agrees to one list of survivors", code="E_MASK_USED")
    member.store.write(job.run, group_in(job.rule), kept)
    return {"agreed": word_array(_statement(job, kept, slot, alive))}


def unmask(member: Member, job: Job, quorum: int) -> State:
    """Open the shares of the survivors' own masks and of the keys of those who are missing.

    Raises
    ------
    Refused
        E_MASK_GROUP, E_MASK_SITES, E_MASK_USED, E_MASK_SIGNATURE, E_MASK_ROUND.
    """
    kept, slot, alive = _asked(member, job, quorum)
    if slot.setdefault("told", alive) != alive or slot.get("agreed", alive) != alive:
        raise Refused("a round is unmasked for one list of survivors", code="E_MASK_USED")
    dead = sorted(set(slot["sites"]) - set(alive))
    if dead and member.peers is not None:
        _check_agreement(job, kept, slot, alive)
    wanted = {f"key/{name}" for name in dead} | {f"self/{name}" for name in alive if name != member.site}
    if not job.extra.keys() <= wanted:
        raise Refused("of each peer one kind of share is opened", code="E_MASK_SITES")
    name = f"{job.round}/{slot['kind']}"
    if member.store.unmasked(job.run).get(name, alive) != alive:
        raise Refused("a round is opened for one set of sites: two sums that differ in one site show its update", code="E_MASK_ROUND")
    member.store.note_unmasked(job.run, name, alive)
    member.store.write(job.run, group_in(job.rule), kept)
    found: State = {f"self/{member.site}": np.frombuffer(bytes.fromhex(slot["share"]), np.uint8)}
    for label, box in sorted(job.extra.items()):
        kind, _, peer = label.partition("/")
        share = member.opened(box.tobytes(), kept, kind=kind, slot=number_in(job.rule, "slot"), sender=peer)
        if share is not None and len(share) == SECRET_BYTES:
            found[label] = np.frombuffer(share, np.uint8)
    return found


def _asked(member: Member, job: Job, quorum: int) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return the group, the slot and the survivors that a job names; only what this site has masked itself counts."""
    kept = member.store.need(job.run, group_in(job.rule))
    slot = kept["slots"].get(str(number_in(job.rule, "slot")))
    if slot is None or slot["round"] != job.round:
        raise Refused("a site helps to unmask what it has masked", code="E_MASK_GROUP")
    alive = member.checked(job.rule.get("alive"), within=slot["sites"], least=max(LEAST_SITES, kept["threshold"], quorum))
    return kept, slot, alive


def _statement(job: Job, kept: dict[str, Any], slot: dict[str, Any], alive: list[str]) -> str:
    return statement_of(kept["digest"], slot=number_in(job.rule, "slot"), sites=slot["sites"], alive=alive)


def _check_agreement(job: Job, kept: dict[str, Any], slot: dict[str, Any], alive: list[str]) -> None:
    statement, signatures = _statement(job, kept, slot, alive), job.rule.get("signatures")
    given = signatures if isinstance(signatures, dict) else {}
    agreed = [
        name
        for name in alive
        if verifies(kept["signing"][name], agreement_bytes(statement, run=job.run, round=job.round, site=name), str(given.get(name, "")))
    ]
    if len(agreed) < kept["threshold"]:
        raise Refused("a threshold of survivors signs the list", value=len(agreed), code="E_MASK_SIGNATURE")
