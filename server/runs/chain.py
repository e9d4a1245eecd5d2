"""A round in which sites train one after another: each goes on from the state of the one before it (`server/strategies/cyclic`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from server.runs.draws import drawn
from server.runs.exchange import exchange
from server.runs.gathering import Senders, SiteRecord, take
from server.runs.roster import Waiting
from server.strategies.replies import Spool
from shared_models.compression import compression_of
from shared_models.core.files import read_state
from shared_models.core.state import digest
from shared_models.experiment import Federation
from shared_models.messages import Job, Packed

if TYPE_CHECKING:
    from flwr.serverapp import Grid


def order_of(sites: Iterable[str], how: str, *, seed: int, round: int) -> list[str]:
    """Return the order in which `sites` take their turns in `round`: ``fixed`` by name, ``shuffled`` drawn from seed and round.

    Examples
    --------
    >>> order_of(["b", "a", "c"], "fixed", seed=0, round=1)
    ['a', 'b', 'c']
    >>> order_of(["b", "a", "c"], "shuffled", seed=0, round=1) == order_of(["c", "b", "a"], "shuffled", seed=0, round=1)
    True
    """
    names = sorted(set(sites))
    return names if how == "fixed" else [names[at] for at in drawn("order", seed, round).permutation(len(names))]


def gather_chain(
    grid: Grid,
    roster: dict[int, str],
    job: Job,
    spool: Spool,
    *,
    how: str,
    seed: int,
    settings: Federation,
    known: dict[str, dict[str, Any]],
    asked: dict[str, Any],
    senders: Senders,
    waiting: Waiting | None = None,
) -> dict[str, SiteRecord]:
    """Ask the sites of the roster in their order, each with what the last valid reply gave; return what each did.

    A site that does not answer within the deadline, or is refused, is passed over. What `known` holds was answered before a crash or in an
    earlier attempt and stands: the chain goes on behind it.
    """
    records = {site: SiteRecord(refused="E_NO_REPLY") for site in sorted({*roster.values(), *known})}
    records |= {site: SiteRecord(**record) for site, record in known.items()}
    nodes, compression = {site: node for node, site in roster.items()}, compression_of(settings.compression)
    place = max((reply.place for reply in spool.replies), default=0)
    state = job.state if not place else _state_at(spool, place)
    for site in order_of(nodes, how, seed=seed, round=job.round):
        if site in known:
            continue
        hop = replace(job, state=state)
        question = {**asked, "model": digest(state)} if asked else {}
        if waiting is not None:
            waiting([site])
        for message in exchange(grid, {nodes[site]: hop}, timeout_s=settings.deadline_s):
            records[site] = take(
                message,
                site,
                hop,
                spool,
                current=hop.state,
                model=None,
                settings=settings,
                compression=compression,
                asked=question,
                senders=senders,
                place=place + 1,
            )
        if records[site].refused is None:
            place += 1
            state = _state_at(spool, place)
    if waiting is not None:
        waiting([])
    return records


def _state_at(spool: Spool, place: int) -> Packed:
    reply = next(reply for reply in spool.replies if reply.place == place)
    return Packed(read_state(reply.path))
