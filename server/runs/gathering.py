"""One attempt at a round: what every site sent is checked and spooled, one by one or, under the secure sum, as one total."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from server.runs.check import check_content, check_sender, open_update
from server.runs.exchange import exchange, read
from server.runs.journal import write_note
from server.runs.receipts import Receipts
from server.runs.roster import Waiting
from server.runs.secure import Outcome, SecureSum
from server.runs.secure_group import Ask
from server.strategies.replies import Spool
from shared_models.blocks.spec import Classical, PrivateSums
from shared_models.compression import Compression, compression_of
from shared_models.core.arrays import State
from shared_models.core.errors import FedILDError, Refused
from shared_models.core.state import size_bytes
from shared_models.experiment import Experiment, Federation
from shared_models.messages import Job, Update

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

ALL_SITES = "all sites"
"""Stands for the sites of a secure sum where otherwise a site is named."""


@dataclass
class SiteRecord:
    """What one site did in one round."""

    num_cases: int = 0
    steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    refused: str | None = None
    bytes: int = 0
    norm: float = 0.0
    staleness: int = 0
    """Rounds that had closed since it was asked."""
    place: int = 0
    """Its turn where sites train one after another."""


@dataclass(frozen=True)
class Senders:
    """What is known of the sites of a run: their signing keys and the receipts of their privacy ledgers; None where sites have none."""

    keys: Mapping[str, str] | None = None
    receipts: Receipts | None = None

    def check(self, update: Update, *, run: str, round: int, site: str) -> None:
        """Refuse what is not the site's own answer to this round; keep the receipt that came with it, whatever becomes of the update.

        Raises
        ------
        Refused
            As `check_sender`.
        """
        check_sender(update, run=run, round=round, site=site, key=None if self.keys is None else self.keys.get(site, ""))
        if self.receipts is not None:
            self.receipts.keep(site, update.receipt)


def gather_updates(
    grid: Grid,
    roster: dict[int, str],
    job: Job,
    spool: Spool,
    *,
    current: State,
    model: Any,
    settings: Federation,
    known: dict[str, dict[str, Any]],
    asked: dict[str, Any],
    senders: Senders,
    needs: Sequence[str] = (),
    jobs: Mapping[str, Job] | None = None,
    waiting: Waiting | None = None,
) -> dict[str, SiteRecord]:
    """Ask every site of the roster that has not answered yet, check each reply, spool the valid ones; return what each site did.

    Parameters
    ----------
    current : State
        The part of the job's state that updates change.
    known : dict
        Records of the sites whose replies were taken up from the journal.
    asked : dict
        What a reply answers, for the journal; empty without one.
    needs : sequence of str
        Metrics that every update must bring.
    jobs : mapping, optional
        By site, the form in which it gets `job`: without arrays that it has.
    """
    records = {site: SiteRecord(refused="E_NO_REPLY") for site in sorted({*roster.values(), *known})}
    records |= {site: SiteRecord(**record) for site, record in known.items()}
    compression = compression_of(settings.compression) if model is None else None
    open_nodes = [node for node, site in roster.items() if site not in known]
    answered, lost = set(known), False
    questions = {node: job if jobs is None else jobs[roster[node]] for node in open_nodes}
    for message in exchange(grid, questions, timeout_s=settings.deadline_s, again=True):
        site = roster.get(message.metadata.src_node_id)
        answered |= {site} if site is not None and not message.has_error() else set()
        lost = lost or message.has_error()
        if lost and waiting is not None:
            waiting(sorted(set(roster.values()) - answered))  # who is lost is among these: seen at once, not at the deadline
        if site is None:
            continue  # an error made by the network layer for a dead node: the site stays E_NO_REPLY
        records[site] = take(
            message,
            site,
            job,
            spool,
            current=current,
            model=model,
            settings=settings,
            compression=compression,
            asked=asked,
            senders=senders,
            needs=needs,
        )
        del message  # a large reply has gone before the next one comes
    if lost and waiting is not None:
        waiting([])
    return records


def take(
    message: Message,
    site: str,
    job: Job,
    spool: Spool,
    *,
    current: State,
    model: Any,
    settings: Federation,
    compression: Compression | None,
    asked: dict[str, Any],
    senders: Senders,
    needs: Sequence[str] = (),
    place: int = 0,
    now: tuple[int, State] | None = None,
) -> SiteRecord:
    """Check the reply of `site` to `job`, spool and note it when it is valid, and return what the site did.

    Parameters
    ----------
    needs : sequence of str
        Metrics without which an update is refused (E_METRIC).
    place : int
        The site's turn in a chain.
    now : (int, State), optional
        The round that is being gathered and its start, where the job is of an earlier one: the change is carried over to this start.
    """
    update = read(message)
    record = SiteRecord(refused="E_CONTENT" if update is None else update.code or None, place=place)
    if update is None or update.code:
        return record
    record.num_cases, record.steps, record.bytes = update.num_cases, update.steps, size_bytes(update.state) + size_bytes(update.extra)
    record.metrics = {name: float(value) for name, value in sorted(update.metrics.items()) if abs(value) < 1e30}
    try:
        senders.check(update, run=job.run, round=job.round, site=site)
        update = open_update(update, current, compression)
        record.norm = check_content(update, current=current, model=model, max_norm=settings.max_update_norm)
        if missing := [name for name in needs if name not in record.metrics]:
            raise Refused("the strategy needs a metric of every site", value=missing, remedy="add the name to policy.metrics", code="E_METRIC")
        state = update.state
        if now is not None and now[0] != job.round:
            record.staleness, state = now[0] - job.round, carried_over(update.state, current, now[1])
        more = {"staleness": record.staleness, "place": place, "metrics": record.metrics}
        spool.add(site, state, num_cases=update.num_cases, steps=update.steps, **more)
        if asked:
            write_note(spool, site, asdict(record), asked=asked)
    except (Refused, FedILDError) as error:
        record.refused = error.code
    return record


def carried_over(state: State, start: State, now: State) -> State:
    """Return ``now + (state - start)``: the change that a site made on an earlier start, as if made on the present one.

    Examples
    --------
    >>> import numpy as np
    >>> carried_over({"w": np.array([3.0])}, {"w": np.array([2.0])}, {"w": np.array([10.0])})
    {'w': array([11.])}
    """
    moved: State = {}
    for key, value in state.items():
        wide = np.float64 if value.dtype.kind == "f" else np.int64
        moved[key] = (now[key].astype(wide) + (value.astype(wide) - start[key].astype(wide))).astype(value.dtype)
    return moved


def line_to(grid: Grid, roster: dict[int, str], *, run: str, round: int, senders: Senders, waiting: Waiting | None = None) -> Ask:
    """Return what asks sites by name and gives back what is their own and of this round; `waiting` is told once a site was lost."""
    nodes = {site: node for node, site in roster.items()}

    def ask(jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
        answered: set[str] = set()
        lost = False
        for message in exchange(grid, {nodes[site]: job for site, job in jobs.items() if site in nodes}, timeout_s=timeout_s, again=True):
            site, update = roster.get(message.metadata.src_node_id), read(message)
            answered |= {site} if site is not None and not message.has_error() else set()
            lost = lost or message.has_error()
            if lost and waiting is not None:
                waiting(sorted(jobs.keys() - answered))
            if site is None:
                continue
            try:
                if update is not None and not update.code:
                    senders.check(update, run=run, round=round, site=site)
                yield site, "E_CONTENT" if update is None else update.code or update
            except Refused as error:
                yield site, error.code
        if lost and waiting is not None:
            waiting([])

    return ask


def gather_sum(
    secure: SecureSum,
    line: Ask,
    roster: dict[int, str],
    job: Job,
    spool: Spool,
    *,
    current: State,
    model: Classical | None,
    settings: Experiment,
    known: dict[str, dict[str, Any]],
    asked: dict[str, Any],
) -> tuple[dict[str, SiteRecord], SiteRecord | None]:
    """Spool the total of one attempt as if it were the update of one site; return the records of the sites and of the total."""
    if ALL_SITES in known:
        sites: dict[str, Any] = known[ALL_SITES].pop("sites")
        return {site: SiteRecord(**record) for site, record in sites.items()}, SiteRecord(**known[ALL_SITES])

    def check(state: State) -> State:
        if secure.experiment.privacy.at_sites and isinstance(model, PrivateSums):
            state = model.mend(state)  # here, once: parts that were mended at the sites would have lost noise
        whole = Update(run=job.run, round=job.round, state=state, num_cases=1)
        check_content(whole, current=current, model=model, max_norm=settings.federation.max_update_norm)
        return state

    outcome: Outcome = secure.sum(job, line, sites=roster.values(), current=current if model is None else None, settings=settings, check=check)
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
