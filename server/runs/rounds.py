"""The loop over rounds, in plain sight. One of two loops in the house; the other is `client/training/gradient`.

A round: send the global model to every site of the roster; take replies as they come, check each, spool the valid ones; when all have
answered or the deadline has passed, count valid replies against the quorum; aggregate; checkpoint; tell the caller what happened. A site
that died is asked again when it is back while others are still at work. A round without a quorum is repeated after a pause, then the run
stops with a status: never is a model released on fewer sites than agreed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.runs.check import REJECTIONS, check_content, check_sender, open_update
from server.runs.checkpoint import RoundState, save
from server.runs.journal import sweep, take_up, write_note
from server.runs.roster import REJOIN_S, Waiting, refresh
from server.runs.secure import Ask, Outcome, SecureSum
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.compression import compression_of
from shared_models.core.arrays import State
from shared_models.core.errors import FedILDError, Interrupted, Refused
from shared_models.core.state import digest, norm, size_bytes, subtract
from shared_models.experiment import Experiment, Federation, learning_rate_factor
from shared_models.messages import MESSAGE_TYPES, Job, Update, broadcast, read_update

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

POLL_S = (0.02, 0.3)
"""Seconds between two looks for replies: short at first, for sites on this machine; longer soon, for sites far away."""


ALL_SITES = "all sites"
"""Stands for the sites of a secure sum where otherwise a site is named."""

HELLO_S = 60.0
"""Seconds that a newly connected site has to say who it is."""

ASK_AGAIN_S = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Pauses before a site whose message came back as an error is asked again within the round, one after another; then it is left alone."""

PAUSE_S = (5.0, 15.0, 45.0, 120.0)
"""Pauses before a round of a deployment is repeated, one after another; the last one repeats. A pause is no longer than the deadline."""

log = logging.getLogger("fedild.run")


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
    total: SiteRecord | None = None
    """Under the secure sum, which shows nothing of single sites: patients and mean metrics of all sites in it."""


def take_roll(grid: Grid, *, run: str, timeout_s: float = 60.0, wanted: int = 1) -> dict[int, str]:
    """Ask every connected node who it is; return node id to site name, sorted by name.

    Waits, at most `timeout_s`, until `wanted` sites have answered. Of several nodes that claim one name the lowest number has it, whatever
    the order of their answers: a stranger cannot keep the others from starting, and a resumed run chooses the same node. (In a deployment
    no name is claimed: Flower knows each node by its registered key.)

    Raises
    ------
    Interrupted
        Fewer sites than wanted.
    """
    until = time.monotonic() + timeout_s
    said: dict[int, str] = {}
    while True:
        said |= _hello(grid, [node for node in grid.get_node_ids() if node not in said], run=run, timeout_s=max(1.0, until - time.monotonic()))
        names = {name: node for node, name in sorted(said.items(), reverse=True)}
        if len(names) >= wanted or time.monotonic() >= until:
            break
        time.sleep(POLL_S[1])
    if len(names) < wanted:
        raise Interrupted("enough sites must be connected", value=f"{len(names)} of {wanted}", remedy="start the missing sites and resume the run")
    for node in sorted(said.keys() - set(names.values())):
        log.warning("node %d is left out: the name %s is another's", node, said[node])
    return {node: name for name, node in sorted(names.items())}


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


def exchange(grid: Grid, jobs: dict[int, Job], *, timeout_s: float, again: bool = False) -> Iterator[Message]:
    """Send a job to each node and yield the replies as they come, until all have answered or `timeout_s` has passed.

    Jobs that are the same object are serialised once. Replies made by the server's own network layer (a dead node) carry an error and
    are yielded too; with `again` such a node gets its job once more, after a pause of `ASK_AGAIN_S`, if it is connected then and the others
    have not all answered yet.
    """
    from flwr.app import Message

    contents = {id(job): broadcast(job) for job in jobs.values()}
    until, pause = time.monotonic() + timeout_s, POLL_S[0]

    def ask(nodes: Sequence[int]) -> dict[str, int]:
        left = max(1e-3, until - time.monotonic())
        messages = [
            Message(contents[id(jobs[node])], dst_node_id=node, message_type=MESSAGE_TYPES[jobs[node].kind], ttl=left, group_id=str(jobs[node].round))
            for node in nodes
        ]
        # Flower gives no number to a message for a node that it does not know any more.
        return {str(number): node for number, node in zip(grid.push_messages(messages), nodes, strict=False) if number} if messages else {}

    waiting = ask(list(jobs))
    errors: Counter[int] = Counter()
    due: dict[int, float] = {}
    while waiting:
        looked = time.monotonic()
        replies = list(grid.pull_messages(set(waiting)))
        for reply in replies:
            node = waiting.pop(str(reply.metadata.reply_to_message_id), None)
            if node is None:
                continue  # a reply that the network delivers twice is one reply
            if again and reply.has_error() and errors[node] < len(ASK_AGAIN_S):
                due[node] = looked + ASK_AGAIN_S[errors[node]]
                errors[node] += 1
            yield reply
        if time.monotonic() >= until:
            return
        if waiting and (ready := [node for node, at in due.items() if at <= looked]):
            here = [node for node in ready if node in set(grid.get_node_ids())]
            due |= dict.fromkeys(ready, looked + POLL_S[1])  # who is not there is looked for again
            for node in here:
                del due[node]
            waiting |= ask(here)
        if not replies:
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
    certificate: dict[str, Any] | None = None,
) -> RoundState:
    """Run the rounds after `start.round` up to the experiment's number and return where the run stands then.

    Parameters
    ----------
    strategy : Strategy
        Its `rule` goes to the sites, its `aggregate` makes the next state.
    grid : Grid
        Flower's messages to the sites.
    start : RoundState
        A new run (round 0) or a checkpoint.
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
    certificate : dict, optional
        The same keys under the consortium's signature: what the sites of a secure sum know each other by.

    Raises
    ------
    Interrupted
        No quorum in a round and all its repetitions; the last checkpoint stands. E_QUORUM: too few sites sent an update; E_REJECTED: enough
        did, but too many of these failed the update check.
    """
    settings = experiment.federation
    at = start
    text = experiment.for_sites().to_json()
    secure = None if settings.secure_sum is None else SecureSum(experiment, run=start.run, certificate=certificate)
    sweep(folder, next_round=start.round + 1)
    for number in range(start.round + 1, settings.rounds + 1):
        if sites is None:
            welcome(grid, roster, run=at.run, timeout_s=min(HELLO_S, settings.deadline_s))
        else:
            refresh(grid, roster, sites, timeout_s=min(REJOIN_S, settings.deadline_s), waiting=waiting)
        # What a reply answers: a reply that outlived a crash counts only for the very same question. A simulation repeats its round instead.
        asked = {"run": at.run, "round": number, "model": digest(at.state)} if durable else {}
        rule = {**strategy.rule, "lr_factor": learning_rate_factor(experiment.train, number, settings.rounds)}
        job = Job(run=at.run, round=number, kind="fit", state=at.state, experiment=text, rule=rule)
        valid: list[str] = []
        for attempt in range(1, settings.retries + 2):
            if attempt > 1 and sites is not None:  # the sites of a simulation would fail in the same way at once
                _pause(attempt, settings, missing=sorted(set(sites) - set(valid)), waiting=waiting)
                refresh(grid, roster, sites, timeout_s=0.0, waiting=waiting)
            began = time.monotonic()
            spool = Spool(folder / "spool" / f"round-{number:06d}", durable=durable)
            # What was answered before a crash or in an earlier attempt stands: only the others are asked again.
            known = take_up(spool, asked=asked) if asked else {}
            if not known:
                spool.clear()
            if secure is None:
                records = _gather(grid, roster, job, spool, model=model, settings=settings, known=known, asked=asked, keys=keys, waiting=waiting)
                valid, total = [reply.site for reply in spool.replies], None
            else:
                line = _line(grid, roster, run=at.run, round=number, keys=keys)
                records, total = _gather_sum(secure, line, roster, job, spool, model=model, settings=settings, known=known, asked=asked)
                valid = [site for site, record in records.items() if total is not None and record.refused is None]
            if len(valid) >= settings.quorum:
                break
        else:
            if not asked:
                spool.clear()
            refused = {site: str(r.refused) for site, r in records.items() if r.refused}
            rejected = sum(code in REJECTIONS for code in refused.values())
            raise Interrupted(
                f"a round needs {settings.quorum} valid updates",
                value={"round": number, "valid": len(valid), "refused": refused},
                remedy="the codes say why; bring the sites back and resume the run",
                code="E_REJECTED" if len(valid) + rejected >= settings.quorum else "E_QUORUM",
            )
        state, own = strategy.aggregate(at.state, at.own, spool)
        moved = norm(subtract(state, at.state)) if model is None else 0.0
        at = RoundState(at.run, number, state, own, at.experiment, tuple(records))
        missing = sorted({*records, *(sites or ())} - set(valid))
        sent = sum(record.bytes for record in records.values())
        on_round(RoundRecord(number, time.monotonic() - began, records, missing, bool(missing), moved, sent, attempt, total), at)
        save(folder / "checkpoints", at, durable=durable)
        spool.clear()  # only now: a crash before the checkpoint finds the replies again
    return at


def judge(
    grid: Grid,
    at: RoundState,
    *,
    experiment: Experiment,
    roster: dict[int, str],
    keys: Mapping[str, str] | None = None,
    certificate: dict[str, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Let every site evaluate the final model on its own validation patients; return the metrics that its gate released.

    Under the secure sum there is one entry, `ALL_SITES`, with the mean over the patients.
    """
    job = Job(run=at.run, round=at.round, kind="judge", state=at.state, experiment=experiment.for_sites().to_json())
    if experiment.federation.secure_sum is not None:
        line = _line(grid, roster, run=job.run, round=job.round, keys=keys)
        secure = SecureSum(experiment, run=job.run, certificate=certificate)
        total = secure.sum(job, line, sites=roster.values(), current=None).total
        return {} if total is None else {ALL_SITES: dict(sorted(total.metrics.items()))}
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


def _pause(attempt: int, settings: Federation, *, missing: list[str], waiting: Waiting | None) -> None:
    if waiting is not None:
        waiting(missing)
    time.sleep(min(PAUSE_S[min(attempt - 2, len(PAUSE_S) - 1)], settings.deadline_s))
    if waiting is not None:
        waiting([])


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
    waiting: Waiting | None = None,
) -> dict[str, SiteRecord]:
    records = {site: SiteRecord(refused="E_NO_REPLY") for site in sorted({*roster.values(), *known})}
    records |= {site: SiteRecord(**record) for site, record in known.items()}
    compression = compression_of(settings.compression) if model is None else None
    open_nodes = [node for node, site in roster.items() if site not in known]
    answered, lost = set(known), False
    for message in exchange(grid, dict.fromkeys(open_nodes, job), timeout_s=settings.deadline_s, again=True):
        site = roster.get(message.metadata.src_node_id)
        answered |= {site} if site is not None and not message.has_error() else set()
        lost = lost or message.has_error()
        if lost and waiting is not None:
            waiting(sorted(set(roster.values()) - answered))  # who is lost is among these: seen at once, not at the deadline
        if site is None:
            continue  # an error made by the network layer for a dead node: the site stays E_NO_REPLY
        update = _read(message)
        record = SiteRecord(refused="E_CONTENT" if update is None else update.code or None)
        records[site] = record
        if update is None or update.code:
            continue
        record.num_cases, record.steps, record.bytes = update.num_cases, update.steps, size_bytes(update.state) + size_bytes(update.extra)
        record.metrics = {name: float(value) for name, value in sorted(update.metrics.items()) if abs(value) < 1e30}
        try:
            check_sender(update, run=job.run, round=job.round, site=site, key=None if keys is None else keys.get(site, ""))
            update = open_update(update, job.state, compression)
            record.norm = check_content(update, current=job.state, model=model, max_norm=settings.max_update_norm)
            spool.add(site, update.state, num_cases=update.num_cases, steps=update.steps)
            if asked:
                write_note(spool, site, asdict(record), asked=asked)
        except (Refused, FedILDError) as error:
            record.refused = error.code
    if lost and waiting is not None:
        waiting([])
    return records


def _line(grid: Grid, roster: dict[int, str], *, run: str, round: int, keys: Mapping[str, str] | None) -> Ask:
    """Return what asks sites by name and gives back what is their own and of this round."""
    nodes = {site: node for node, site in roster.items()}

    def ask(jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
        for message in exchange(grid, {nodes[site]: job for site, job in jobs.items() if site in nodes}, timeout_s=timeout_s):
            site, update = roster.get(message.metadata.src_node_id), _read(message)
            if site is None:
                continue
            try:
                if update is not None and not update.code:
                    check_sender(update, run=run, round=round, site=site, key=None if keys is None else keys.get(site, ""))
                yield site, "E_CONTENT" if update is None else update.code or update
            except Refused as error:
                yield site, error.code

    return ask


def _gather_sum(
    secure: SecureSum,
    line: Ask,
    roster: dict[int, str],
    job: Job,
    spool: Spool,
    *,
    model: Any,
    settings: Federation,
    known: dict[str, dict[str, Any]],
    asked: dict[str, Any],
) -> tuple[dict[str, SiteRecord], SiteRecord | None]:
    """Spool the total of one attempt as if it were the update of one site; return the records of the sites and of the total."""
    if ALL_SITES in known:
        sites: dict[str, Any] = known[ALL_SITES].pop("sites")
        return {site: SiteRecord(**record) for site, record in sites.items()}, SiteRecord(**known[ALL_SITES])

    def check(state: State) -> None:
        whole = Update(run=job.run, round=job.round, state=state, num_cases=1)
        check_content(whole, current=job.state, model=model, max_norm=settings.max_update_norm)

    outcome: Outcome = secure.sum(job, line, sites=roster.values(), current=job.state if model is None else None, check=check)
    records = {site: SiteRecord(refused="E_NO_REPLY") for site in sorted(roster.values())}
    for site in records.keys() & (outcome.bytes.keys() | outcome.refused.keys()):
        records[site] = SiteRecord(refused=outcome.refused.get(site), bytes=outcome.bytes.get(site, 0))
    if outcome.total is None:
        return records, None
    total = SiteRecord(num_cases=outcome.total.cases, metrics=outcome.total.metrics, bytes=sum(outcome.bytes.values()))
    spool.add(ALL_SITES, outcome.total.state, num_cases=total.num_cases, steps=0)
    if asked:
        write_note(spool, ALL_SITES, {**asdict(total), "sites": {site: asdict(record) for site, record in records.items()}}, asked=asked)
    return records, total


def _read(message: Message) -> Update | None:
    if message.has_error():
        return None
    try:
        return read_update(message.content)
    except FedILDError:
        return None
