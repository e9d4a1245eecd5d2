"""The loop over rounds, in plain sight. One of two loops in the house; the other is `client/training/gradient`.

A round: send the global model to every site of the roster; take replies as they come, check each, spool the valid ones; when all have
answered or the deadline has passed, count valid replies against the quorum; aggregate; checkpoint; tell the caller what happened. A site
that died is asked again when it is back while others are still at work. A round without a quorum is repeated after a pause, then the run
stops with a status: never is a model released on fewer sites than agreed. A run that waits for people to approve it waits for days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.runs.buffered import Buffered
from server.runs.by_site import keep_by_site
from server.runs.chain import gather_chain
from server.runs.check import REJECTIONS
from server.runs.checkpoint import RoundState, save
from server.runs.draws import Pace, sampled
from server.runs.exchange import exchange, read
from server.runs.gathering import ALL_SITES, Senders, SiteRecord, gather_sum, gather_updates, line_to
from server.runs.journal import sweep, take_up
from server.runs.receipts import Receipts
from server.runs.rested import Rested
from server.runs.roll import HELLO_S, welcome
from server.runs.roster import REJOIN_S, Waiting, refresh
from server.runs.secure import SecureSum
from server.runs.stopping import Course, federated_metric
from server.strategies.replies import Spool
from server.strategies.strategy import Strategy
from shared_models.core.errors import Interrupted, Refused
from shared_models.core.state import digest, distance, size_bytes
from shared_models.experiment import Experiment, Federation, learning_rate_factor
from shared_models.messages import Job, Packed
from shared_models.phases import Phase, phases_of

if TYPE_CHECKING:
    from flwr.serverapp import Grid

PAUSE_S = (5.0, 15.0, 45.0, 120.0, 300.0)
"""Pauses before a round of a deployment is repeated, one after another; the last one repeats. A pause is no longer than the deadline."""

UNDECIDED = "E_NOT_APPROVED"
APPROVAL_S = 7 * 86400.0
"""Seconds that a run waits, beside its repetitions, for people at the sites to approve its experiment; meanwhile `status` names these sites."""


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
    late: list[str] = field(default_factory=list)
    """Sites that are still at work and will answer into a later round; they are not missing."""
    score: dict[str, Any] | None = None
    """What was learnt in this round of a global state: the ``round`` that it came out of, the federated ``metric`` and its ``value``."""
    best: int | None = None
    """The best round so far by that metric."""
    phase: str = "training"
    bytes_down: int | None = None
    """Arrays of the questions to all sites of the round: the global state, or the part that they did not have; None of sites that run freely."""


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
    phase: Phase | None = None,
    durable: bool = True,
    sites: Sequence[str] | None = None,
    waiting: Waiting | None = None,
    keys: Mapping[str, str] | None = None,
    secure: SecureSum | None = None,
    receipts: Receipts | None = None,
    pace: Pace | None = None,
) -> RoundState:
    """Run the rounds after `start.round` up to the last of `phase` and return where the run stands then.

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
    phase : Phase, optional
        Which rounds these are and what of the state they change; by default the experiment has one phase.
    sites : sequence of str, optional
        Declared sites by registered name: nobody else is asked, and one that is not there counts as missing. None: whoever says hello.
    waiting : callable, optional
        Told which sites a round is waiting for.
    keys : mapping of str, optional
        Registered signing key of each site: an update that its site did not sign is refused. None: sites have none (simulation).
    secure : SecureSum, optional
        Sums the updates under masks: none of them is seen.
    receipts : Receipts, optional
        Of the sites' privacy ledgers: brought back with each job, renewed by each update. None: sites have none (simulation).
    pace : callable, optional
        The simulated clock of a strategy that does not wait for every site; None takes updates as they come.

    Raises
    ------
    Interrupted
        No quorum in a round and all its repetitions; the last checkpoint stands. E_QUORUM: too few sites sent an update; E_REJECTED: enough
        did, but too many of these failed the update check.
    """
    settings = experiment.federation
    phase = phase or phases_of(experiment)[-1]
    at, start.state = replace(start), {}  # whoever called holds `start` to the end, and with it a model that is long out of date
    text = experiment.for_sites().to_json()
    senders = Senders(keys, receipts)
    sweep(folder, next_round=start.round + 1)
    asking = settings if phase.number is None else settings.model_copy(update={"sample": None})  # statistics are of everybody
    rested = Rested(phase)
    course = None if settings.stopping is None else Course.of(settings.stopping, at.loop)
    rides = strategy.together and settings.sample is None  # every site of a round judges the state that it receives
    buffered = None
    if strategy.buffer is not None:

        def factor_of(number: int) -> float:
            return learning_rate_factor(phase.settings.train, number - phase.first + 1, phase.rounds)

        buffered = Buffered(grid, folder, strategy.buffer, settings=settings, pace=pace, kept=at.loop, factor=factor_of)
    for number in range(start.round + 1, phase.last + 1):
        if course is not None and course.stop:
            break
        if sites is None:
            welcome(grid, roster, run=at.run, timeout_s=min(HELLO_S, settings.deadline_s))
        else:
            refresh(grid, roster, sites, timeout_s=min(REJOIN_S, settings.deadline_s), waiting=waiting)
        # What a reply answers: a reply that outlived a crash counts only for the very same question. A simulation repeats its round instead.
        asked = {"run": at.run, "round": number, "model": digest(at.state)} if durable else {}
        at.state = Packed(at.state)
        current = phase.changed(at.state)
        factor = learning_rate_factor(phase.settings.train, number - phase.first + 1, phase.rounds)
        rule, extra = {**strategy.rule, "lr_factor": factor}, strategy.sends(at.own)
        extra = Packed(extra) if extra else {}
        brought = receipts.of(list(roster.values())) if receipts else {}
        job = Job(run=at.run, round=number, kind="fit", state=at.state, experiment=text, rule=rule, extra=extra, receipts=brought)
        valid: list[str] = []
        records: dict[str, SiteRecord] = {}
        patience = time.monotonic() + APPROVAL_S
        attempt, undecided, failed = 0, 0, set[str]()
        while attempt - undecided <= settings.retries:
            attempt += 1
            if attempt > 1 and sites is not None:  # the sites of a simulation would fail in the same way at once
                _pause(attempt, settings, missing=[_named(site, records) for site in sorted(set(sites) - set(valid))], waiting=waiting)
                refresh(grid, roster, sites, timeout_s=0.0, waiting=waiting)
            began = time.monotonic()
            drawn = sampled(sites or [*roster.values()], {*roster.values()}, asking, seed=experiment.seed, round=number, spare=len(failed))
            members = {node: site for node, site in roster.items() if site in drawn}
            spool = Spool(folder / "spool" / f"round-{number:06d}", durable=durable, factor=factor)
            # What was answered before a crash or in an earlier attempt stands: only the others are asked again.
            known = take_up(spool, asked=asked, chain=bool(strategy.chain)) if asked else {}
            if not known:
                spool.clear()
            total, down = None, None if buffered is not None else size_bytes(job.state) * len(members)
            told: dict[str, Any] = {"known": known, "asked": asked, "senders": senders, "waiting": waiting}
            if buffered is not None:
                records = buffered.gather(roster, job, spool, free=drawn, **told)
            elif strategy.chain:
                records = gather_chain(grid, members, job, spool, how=strategy.chain, seed=experiment.seed, settings=settings, **told)
            elif secure is None:
                jobs = rested.jobs(job, members.values())
                down = sum(size_bytes(jobs[site].state) for site in members.values())
                told |= {"jobs": jobs, "needs": strategy.needs}
                records = gather_updates(grid, members, job, spool, current=current, model=model, settings=settings, **told)
                rested.note(records)
            else:
                line = line_to(grid, members, run=at.run, round=number, senders=senders, waiting=waiting)
                records, total = gather_sum(
                    secure, line, members, job, spool, current=current, model=model, settings=phase.settings, known=known, asked=asked
                )
            valid = [reply.site for reply in spool.replies]
            if secure is not None:
                valid = [site for site, record in records.items() if total is not None and record.refused is None]
            if len(valid) >= settings.quorum:
                break
            failed |= {site for site, record in records.items() if record.refused}
            # A quorum that only waits for people to decide is no failure: the attempt is not counted.
            decided = sum(record.refused == UNDECIDED for record in records.values()) + len(valid) < settings.quorum
            undecided += sites is not None and not decided and time.monotonic() < patience
        else:
            if not asked:
                spool.clear()
            refused = dict.fromkeys(sorted(set(sites or ()) - set(valid)), "E_NO_REPLY")  # who is gone was not even asked
            refused |= {site: str(record.refused) for site, record in records.items() if record.refused}
            rejected = sum(code in REJECTIONS for code in refused.values())
            raise Interrupted(
                f"a round needs {settings.quorum} valid updates",
                value={"round": number, "valid": len(valid), "refused": refused},
                remedy="the codes say why; bring the sites back and resume the run",
                code="E_REJECTED" if len(valid) + rejected >= settings.quorum else "E_QUORUM",
            )
        state, own = strategy.aggregate(current, at.own, spool)
        if secure is None:
            keep_by_site(folder, model, spool)
        moved = distance(state, current) if model is None else 0.0
        kept = {} if buffered is None else buffered.keep()
        at = RoundState(at.run, number, phase.joined(at.state, state), own, at.experiment, tuple(records), kept)
        del state, current, job, extra  # the next round needs the memory
        busy = set() if buffered is None else set(buffered.at_work) & set(roster.values()) - set(records)
        score = None
        if course is not None:
            if rides:
                seen = {site: record.metrics for site, record in records.items() if record.refused is None}
                seen = {ALL_SITES: total.metrics} if total is not None else seen
            else:
                idle = {node: site for node, site in roster.items() if site not in busy}
                seen = judge(grid, at, experiment=experiment, roster=idle, keys=keys, secure=secure, rule=strategy.rule)
            score = course.note(number - 1 if rides else number, federated_metric(course.settings.metric, seen))
            at.loop |= course.keep()
        # Who was not drawn is not missing; who is still at work is late.
        missing = sorted({*records, *((sites or ()) if asking.sample is None else ())} - {*valid, *busy})
        sent = sum(record.bytes for record in records.values())
        best = course.best or None if course is not None else None
        line = (number, time.monotonic() - began, records, missing, bool(missing), moved, sent, attempt, total, sorted(busy), score, best)
        on_round(RoundRecord(*line, phase=phase.name, bytes_down=down), at)
        needed = (set() if buffered is None else buffered.bases) | ({course.best} if course is not None else set())
        save(folder / "checkpoints", at, durable=durable, keep=needed)
        spool.clear()  # only now: a crash before the checkpoint finds the replies again
    return at


def judge(
    grid: Grid,
    at: RoundState,
    *,
    experiment: Experiment,
    roster: dict[int, str],
    keys: Mapping[str, str] | None = None,
    secure: SecureSum | None = None,
    rule: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Let every site evaluate the final model on its own validation patients; return the metrics that its gate released.

    A site that keeps personal parts under the strategy's `rule` evaluates the model with them.

    Under the secure sum there is one entry, `ALL_SITES`, with the mean over the patients.
    """
    at.state = Packed(at.state)  # sent and kept at the memory of one model
    job = Job(run=at.run, round=at.round, kind="judge", state=at.state, experiment=experiment.for_sites().to_json(), rule=dict(rule or {}))
    senders = Senders(keys)
    if secure is not None:
        line = line_to(grid, roster, run=job.run, round=job.round, senders=senders)
        total = secure.sum(job, line, sites=roster.values(), current=None).total
        return {} if total is None else {ALL_SITES: dict(sorted(total.metrics.items()))}
    metrics: dict[str, dict[str, float]] = {}
    for message in exchange(grid, dict.fromkeys(roster, job), timeout_s=experiment.federation.deadline_s):
        update = read(message)
        site = roster.get(message.metadata.src_node_id)
        if update is not None and not update.code and site is not None:
            with suppress(Refused):
                senders.check(update, run=job.run, round=job.round, site=site)
                metrics[site] = update.metrics
        del message, update  # a site may send arrays that nobody asked for: they have gone before the next one's come
    return dict(sorted(metrics.items()))


def _named(site: str, records: Mapping[str, SiteRecord]) -> str:
    return f"{site} (to approve)" if site in records and records[site].refused == UNDECIDED else site


def _pause(attempt: int, settings: Federation, *, missing: list[str], waiting: Waiting | None) -> None:
    if waiting is not None:
        waiting(missing)
    time.sleep(min(PAUSE_S[min(attempt - 2, len(PAUSE_S) - 1)], settings.deadline_s))
    if waiting is not None:
        waiting([])
