"""The loop over rounds, in plain sight. One of two loops in the house; the other is `client/training/gradient`.

A round: send the global model to every site of the roster; take replies as they come, check each, spool the valid ones; when all have
answered or the deadline has passed, count valid replies against the quorum; aggregate; checkpoint; tell the caller what happened. A
round without a quorum is repeated, then the run stops with a status: never is a model released on fewer sites than agreed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.runs.check import check_content, check_sender, open_update
from server.runs.checkpoint import RoundState, save
from server.runs.journal import sweep, take_up, write_note
from server.runs.roster import REJOIN_S, Waiting, refresh
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.compression import Compression, compression_of
from shared_models.core.errors import FedILDError, Interrupted, Refused
from shared_models.core.state import digest, distance, size_bytes
from shared_models.experiment import Experiment, Federation, learning_rate_factor
from shared_models.messages import Job, Packed, Update, broadcast, read_update

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

POLL_S = (0.02, 0.3)
"""Seconds between two looks for replies: short at first, for sites on this machine; longer soon, for sites far away."""


AT_ONCE_BYTES = 64 << 20
"""Replies that are fetched together hold at most so much; larger ones come one by one, each dropped before the next."""

HELLO_S = 60.0
"""Seconds that a newly connected site has to say who it is."""


@dataclass
class SiteRecord:
    """What one site did in one round."""

    num_cases: int = 0
    steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    refused: str | None = None
    bytes: int = 0
    norm: float = 0.0


@dataclass
class RoundRecord:
    """What happened in one round: a line of ``rounds.jsonl``."""

    round: int
    wall_s: float
    sites: dict[str, SiteRecord]
    missing: list[str]
    degraded: bool
    norm: float
    bytes: int
    attempt: int


def take_roll(grid: Grid, *, run: str, timeout_s: float = 60.0, wanted: int = 1) -> dict[int, str]:
    """Ask every connected node who it is; return node id to site name, sorted by name.

    Waits, at most `timeout_s`, until `wanted` sites have answered.

    Raises
    ------
    Interrupted
        Fewer sites than wanted, or two nodes under one name.
    """
    until = time.monotonic() + timeout_s
    roster: dict[int, str] = {}
    while True:
        roster |= _hello(grid, [node for node in grid.get_node_ids() if node not in roster], run=run, timeout_s=max(1.0, until - time.monotonic()))
        if len(roster) >= wanted or time.monotonic() >= until:
            break
        time.sleep(POLL_S[1])
    if len(roster) < wanted:
        raise Interrupted("enough sites must be connected", value=f"{len(roster)} of {wanted}", remedy="start the missing sites and resume the run")
    if len(set(roster.values())) != len(roster):
        raise Interrupted("each site connects once", value=sorted(roster.values()), remedy="give every site a name of its own")
    return dict(sorted(roster.items(), key=lambda item: item[1]))


def welcome(grid: Grid, roster: dict[int, str], *, run: str, timeout_s: float) -> None:
    """Add nodes that have connected since to `roster`, in place; a site that came back under a new node takes its old place.

    A node under the name of a site that is still connected is left out.
    """
    connected = set(grid.get_node_ids())
    for node, site in _hello(grid, sorted(connected - roster.keys()), run=run, timeout_s=timeout_s).items():
        before = next((old for old, name in roster.items() if name == site), None)
        if before in connected:
            continue
        if before is not None:
            del roster[before]
        roster[node] = site


def _hello(grid: Grid, nodes: list[int], *, run: str, timeout_s: float) -> dict[int, str]:
    job = Job(run=run, round=0, kind="hello")
    answers = ((message.metadata.src_node_id, _read(message)) for message in exchange(grid, dict.fromkeys(nodes, job), timeout_s=timeout_s))
    return {node: update.site for node, update in answers if update is not None and update.site and node in nodes}


def exchange(grid: Grid, jobs: dict[int, Job], *, timeout_s: float) -> Iterator[Message]:
    """Send a job to each node and yield the replies as they come, until all have answered or `timeout_s` has passed.

    Jobs that are the same object are serialised once. Replies made by the server's own network layer (a dead node) carry an error and
    are yielded too.
    """
    from flwr.app import Message

    contents = {id(job): broadcast(job) for job in jobs.values()}
    kinds = {"hello": "query.hello", "fit": "train", "judge": "evaluate"}
    messages = [
        Message(contents[id(job)], dst_node_id=node, message_type=kinds[job.kind], ttl=timeout_s, group_id=str(job.round))
        for node, job in jobs.items()
    ]
    waiting = list(grid.push_messages(messages)) if messages else []
    del contents, messages
    together = max(1, AT_ONCE_BYTES // max([1, *(size_bytes(job.state) for job in jobs.values())]))
    until, pause = time.monotonic() + timeout_s, POLL_S[0]
    while waiting:
        looked, answered = time.monotonic(), set()
        for start in range(0, len(waiting), together):
            replies = list(grid.pull_messages(waiting[start : start + together]))
            answered |= {reply.metadata.reply_to_message_id for reply in replies}
            while replies:
                yield replies.pop(0)
        waiting = [message for message in waiting if message not in answered]
        if time.monotonic() >= until:
            return
        if not answered:
            time.sleep(max(0.0, looked + pause - time.monotonic()))  # a grid that waits by itself has waited already
            pause = min(POLL_S[1], 1.5 * pause)


def run_rounds(
    strategy: Strategy,
    grid: Grid,
    start: RoundState,
    *,
    experiment: Experiment,
    roster: dict[int, str],
    model: Any,
    folder: Path,
    on_round: Callable[[RoundRecord, RoundState], None],
    durable: bool = True,
    sites: Sequence[str] | None = None,
    waiting: Waiting | None = None,
    keys: Mapping[str, str] | None = None,
) -> RoundState:
    """Run the rounds after `start.round` up to the experiment's number and return where the run stands then.

    Parameters
    ----------
    strategy : Strategy
        Its `rule` goes to the sites, its `aggregate` makes the next state.
    grid : Grid
        Flower's messages to the sites.
    start : RoundState
        A new run (round 0) or a checkpoint; its `state` is taken over and empty afterwards.
    roster : dict
        Node id to site name; sites that connect later are added before the next round.
    model : Classical or None
        Checks contributions of models without gradients.
    folder : Path
        Run folder: spool and checkpoints live there.
    on_round : callable
        Told after every round, just before its checkpoint is written: after a crash between the two the round is repeated, never missing
        from the log.
    sites : sequence of str, optional
        Declared sites by registered name: nobody else is asked, and one that is not there counts as missing. None: whoever says hello.
    waiting : callable, optional
        Told which sites a round is waiting for.
    keys : mapping of str, optional
        Registered signing key of each site: an update that its site did not sign is refused. None: sites have none (simulation).

    Raises
    ------
    Interrupted
        No quorum in a round and all its repetitions; the last checkpoint stands.
    """
    settings = experiment.federation
    at, start.state = replace(start), {}  # whoever called holds `start` to the end, and with it a model that is long out of date
    text = experiment.for_sites().to_json()
    sweep(folder, next_round=start.round + 1)
    for number in range(start.round + 1, settings.rounds + 1):
        if sites is None:
            welcome(grid, roster, run=at.run, timeout_s=min(HELLO_S, settings.deadline_s))
        else:
            refresh(grid, roster, sites, timeout_s=min(REJOIN_S, settings.deadline_s), waiting=waiting)
        # What a reply answers: a reply that outlived a crash counts only for the very same question. A simulation repeats its round instead.
        asked = {"run": at.run, "round": number, "model": digest(at.state)} if durable else {}
        at.state = Packed(at.state)
        rule = {**strategy.rule, "lr_factor": learning_rate_factor(experiment.train, number, settings.rounds)}
        job = Job(run=at.run, round=number, kind="fit", state=at.state, experiment=text, rule=rule)
        for attempt in range(1, settings.retries + 2):
            began = time.monotonic()
            spool = Spool(folder / "spool" / f"round-{number:06d}", durable=durable)
            known = take_up(spool, asked=asked) if asked and attempt == 1 else {}
            if not known:
                spool.clear()
            records = _gather(grid, roster, job, spool, model=model, settings=settings, known=known, asked=asked, keys=keys)
            valid = [reply.site for reply in spool.replies]
            if len(valid) >= settings.quorum:
                break
            spool.clear()
        else:
            raise Interrupted(
                f"a round needs {settings.quorum} valid updates",
                value={"round": number, "valid": len(valid), "refused": {site: r.refused for site, r in records.items() if r.refused}},
                remedy="the codes say why; bring the sites back and resume the run",
            )
        state, own = strategy.aggregate(at.state, at.own, spool)
        moved = distance(state, at.state) if model is None else 0.0
        at = RoundState(at.run, number, state, own, at.experiment, tuple(records))
        del state, job  # the next round needs the memory
        missing = sorted({*records, *(sites or ())} - set(valid))
        sent = sum(record.bytes for record in records.values())
        on_round(RoundRecord(number, time.monotonic() - began, records, missing, bool(missing), moved, sent, attempt), at)
        save(folder / "checkpoints", at, durable=durable)
        spool.clear()  # only now: a crash before the checkpoint finds the replies again
    return at


def judge(
    grid: Grid, at: RoundState, *, experiment: Experiment, roster: dict[int, str], keys: Mapping[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Let every site evaluate the final model on its own validation patients; return the metrics that its gate released."""
    job = Job(run=at.run, round=at.round, kind="judge", state=at.state, experiment=experiment.for_sites().to_json())
    metrics: dict[str, dict[str, float]] = {}
    for message in exchange(grid, dict.fromkeys(roster, job), timeout_s=experiment.federation.deadline_s):
        update = _read(message)
        site = roster.get(message.metadata.src_node_id)
        if update is None or update.code or site is None:
            continue
        with suppress(Refused):
            check_sender(update, run=job.run, round=job.round, site=site, key=None if keys is None else keys.get(site, ""))
            metrics[site] = update.metrics
    return dict(sorted(metrics.items()))


def _gather(
    grid: Grid,
    roster: dict[int, str],
    job: Job,
    spool: Spool,
    *,
    model: Any,
    settings: Federation,
    known: dict[str, dict[str, Any]],
    asked: dict[str, Any],
    keys: Mapping[str, str] | None = None,
) -> dict[str, SiteRecord]:
    records = {site: SiteRecord(refused="E_NO_REPLY") for site in sorted({*roster.values(), *known})}
    records |= {site: SiteRecord(**record) for site, record in known.items()}
    compression = compression_of(settings.compression) if model is None else None
    open_nodes = [node for node, site in roster.items() if site not in known]
    for message in exchange(grid, dict.fromkeys(open_nodes, job), timeout_s=settings.deadline_s):
        site = roster.get(message.metadata.src_node_id)
        if site is None:
            continue  # an error made by the network layer for a dead node: the site stays E_NO_REPLY
        key = None if keys is None else keys.get(site, "")
        records[site] = _take(message, site, job, spool, model=model, settings=settings, compression=compression, asked=asked, key=key)
        del message  # a large reply has gone before the next one comes
    return records


def _take(
    message: Message,
    site: str,
    job: Job,
    spool: Spool,
    *,
    model: Any,
    settings: Federation,
    compression: Compression | None,
    asked: dict[str, Any],
    key: str | None,
) -> SiteRecord:
    update = _read(message)
    record = SiteRecord(refused="E_CONTENT" if update is None else update.code or None)
    if update is None or update.code:
        return record
    record.num_cases, record.steps, record.bytes = update.num_cases, update.steps, size_bytes(update.state) + size_bytes(update.extra)
    record.metrics = {name: float(value) for name, value in sorted(update.metrics.items()) if abs(value) < 1e30}
    try:
        check_sender(update, run=job.run, round=job.round, site=site, key=key)
        update = open_update(update, job.state, compression)
        record.norm = check_content(update, current=job.state, model=model, max_norm=settings.max_update_norm)
        spool.add(site, update.state, num_cases=update.num_cases, steps=update.steps)
        if asked:
            write_note(spool, site, asdict(record), asked=asked)
    except (Refused, FedILDError) as error:
        record.refused = error.code
    return record


def _read(message: Message) -> Update | None:
    if message.has_error():
        return None
    try:
        return read_update(message.content)
    except FedILDError:
        return None
