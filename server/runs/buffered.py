"""Rounds that close on their first updates; who is slower answers into a later round (`server/strategies/fedbuff`).

Asked is every site that is not at work, once a round. An update is checked against the state that its site started from, and its change
carried over to the present one. That state is no more than a checkpoint: those that somebody still works on are kept.

After a crash the checkpoint says who was at work on what. These sites are asked the very same questions again, which a site that has its
answer gives back at once, and the journal holds what this round had received.

In a simulation nobody is slow. There a site's job takes a time drawn from the experiment's seed on a clock that nobody waits for, and it is
sent, with the state of when it was due to begin, in the round in which it ends: the same bits on every machine and after every kill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.runs.checkpoint import load_state
from server.runs.draws import Pace
from server.runs.exchange import Post
from server.runs.gathering import Senders, SiteRecord, take
from server.runs.roster import Waiting
from server.strategies.replies import Spool
from server.strategies.strategy import Buffer
from shared_models.compression import compression_of
from shared_models.core.arrays import State
from shared_models.experiment import Federation
from shared_models.messages import Job, Packed

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

AT_WORK, DUE, CLOCK = "at_work/", "due/", "clock"


class Buffered:
    """Who is at work on what, from round to round.

    Parameters
    ----------
    folder : Path
        Run folder.
    pace : callable, optional
        The simulated clock; None takes updates as they really come.
    kept : State
        What `keep` gave when the run was last checkpointed.
    factor : callable
        Factor on the learning rate by round: a site that is asked again gets the question that it was asked.
    """

    def __init__(
        self, grid: Grid, folder: Path, buffer: Buffer, *, settings: Federation, pace: Pace | None, kept: State, factor: Callable[[int], float]
    ) -> None:
        self.grid, self.folder, self.buffer, self.settings, self.pace, self.factor = grid, folder, buffer, settings, pace, factor
        self.size = buffer.size or settings.quorum
        self.at_work = {key.removeprefix(AT_WORK): int(value) for key, value in kept.items() if key.startswith(AT_WORK)}
        self._due = {key.removeprefix(DUE): float(value) for key, value in kept.items() if key.startswith(DUE)}
        self._clock = float(kept.get(CLOCK, np.array(0.0)))
        self._lost: set[str] = set()
        self._post = Post(grid, again=pace is None)

    def keep(self) -> State:
        """Return what a checkpoint has to hold."""
        kept: State = {AT_WORK + site: np.array(round) for site, round in sorted(self.at_work.items())}
        kept |= {DUE + site: np.array(self._due[site]) for site in sorted(self.at_work) if site in self._due}
        return kept | ({CLOCK: np.array(self._clock)} if self.pace else {})

    @property
    def bases(self) -> set[int]:
        """Rounds whose checkpoints are still needed: the states that sites are at work on."""
        return {round - 1 for round in self.at_work.values()}

    def gather(
        self,
        roster: dict[int, str],
        job: Job,
        spool: Spool,
        *,
        free: list[str],
        known: dict[str, dict[str, Any]],
        asked: dict[str, Any],
        senders: Senders,
        waiting: Waiting | None = None,
    ) -> dict[str, SiteRecord]:
        """Take updates until the buffer is full, nobody is at work any more, or the deadline has passed; return what each site did.

        Sites that are still at work are in `at_work` afterwards and, unless their connection failed, not in the records.

        Parameters
        ----------
        free : list of str
            Sites that may be asked in this round, if they are not at work.
        known : dict
            Records of the sites whose replies were taken up from the journal.
        asked : dict
            What this round's replies answer, for the journal; empty without one.
        """
        records = {site: SiteRecord(**record) for site, record in known.items()}
        for site in [site for site, began in self.at_work.items() if job.round - began > self.buffer.most_stale]:
            self._leave(site, roster)
        began_at = self._clock
        for site in free:
            if site in roster.values() and site not in self.at_work:
                self.at_work[site] = job.round
                if self.pace is not None:
                    self._due[site] = began_at + self.pace(site, job.round)
        self._clock = max([began_at, *(self._due[site] for site in known if site in self._due)])
        for site in known.keys() & self.at_work.keys():
            self._leave(site, roster)
        compression = compression_of(self.settings.compression)
        if len(spool.replies) >= self.size:
            return records
        for site, question, message in self._simulated(roster, job, spool) if self.pace else self._answers(roster, job):
            records[site] = take(
                message,
                site,
                question,
                spool,
                current=question.state,
                model=None,
                settings=self.settings,
                compression=compression,
                asked=asked,
                senders=senders,
                now=(job.round, job.state),
            )
            if self.pace or not message.has_error():  # who is lost may come back with its answer
                self._leave(site, roster)
            else:
                self._lost.add(site)
                if waiting is not None:
                    waiting(sorted(self._lost))
            del message, question
            if len(spool.replies) >= self.size:
                break
        return {site: SiteRecord(refused="E_CONTENT") for site in sorted(self._lost & set(roster.values()))} | records

    def _leave(self, site: str, roster: dict[int, str]) -> None:
        del self.at_work[site]
        self._lost.discard(site)
        self._due.pop(site, None)
        for node in [node for node, name in roster.items() if name == site]:
            self._post.forget(node)

    def _questions(self, sites: list[str], roster: dict[int, str], job: Job) -> dict[int, Job]:
        """Return each site's job: this round's, or that of the round in which it was asked."""
        nodes = {site: node for node, site in roster.items()}
        jobs: dict[int, Job] = {job.round: job}
        for site in sites:
            began = self.at_work[site]
            if began in jobs:
                continue
            base = load_state(self.folder, began - 1)
            if base is None:  # a damaged file: the site begins anew with this round
                self.at_work[site] = job.round
                continue
            jobs[began] = replace(job, round=began, state=Packed(base), rule={**job.rule, "lr_factor": self.factor(began)})
        return {nodes[site]: jobs[self.at_work[site]] for site in sites}

    def _answers(self, roster: dict[int, str], job: Job) -> Iterator[tuple[str, Job, Message]]:
        """Ask whoever is not yet asked and yield the answers as they come, those to earlier rounds too."""
        for node in self._post.nodes - roster.keys():
            self._post.forget(node)
        on_the_way = {roster[node] for node in self._post.nodes}
        new = self._questions(sorted(set(self.at_work) & set(roster.values()) - on_the_way), roster, job)
        # A late answer may come as long as it counts, not only while its own round is open.
        self._post.send(new, timeout_s=self.settings.deadline_s * (1 + self.buffer.most_stale))
        del new
        for node, question, message in self._post.replies(timeout_s=self.settings.deadline_s):
            if roster[node] in self.at_work:
                yield roster[node], question, message
            del question, message

    def _simulated(self, roster: dict[int, str], job: Job, spool: Spool) -> Iterator[tuple[str, Job, Message]]:
        """Ask as many as the buffer lacks, those first whose jobs end first on the simulated clock; others when these fail."""
        until = time.monotonic() + self.settings.deadline_s
        while (lacks := self.size - len(spool.replies)) > 0 and time.monotonic() < until:
            here = sorted(set(self.at_work) & set(roster.values()), key=lambda site: (self._due[site], site))[:lacks]
            if not here:
                return
            self._clock = max(self._clock, self._due[here[-1]])
            questions = self._questions(here, roster, job)
            self._post.send(questions, timeout_s=self.settings.deadline_s)
            for node, question, message in self._post.replies(timeout_s=self.settings.deadline_s):
                yield roster[node], question, message
                del question, message
            for site in set(here) & self.at_work.keys():  # no answer at all
                self._leave(site, roster)
