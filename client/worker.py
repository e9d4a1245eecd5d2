"""The resident worker: the hospital's own process that owns data, device, policy and gate. A Job goes in, what the gate released comes out.

The Flower messenger (`client/app`) never touches data: it hands the Job to this worker over a Unix socket, in the simulation by a call.
Whatever goes wrong in here leaves as a fixed code; the text stays in the site's own log.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from client.calibration import calibration_records, refuse_small_cells
from client.guards import Guards
from client.privacy.codes import outward
from client.privacy.gate import Measured, release, release_metrics, write_down
from client.privacy.meter import Meter
from client.privacy.policy import enforce, is_private
from client.privacy.quiet import quiet
from client.privacy.secure_sum.member import Member
from client.privacy.secure_sum.summand import STAGES, answer_stage, sealing
from client.privacy.support import check_groups, support_of, supported
from client.rested import whole_job
from client.selection import measure, received_loss
from client.site import Site
from client.statistics import seen_records
from client.training import FITTERS, PRIVATE_FITTERS
from client.training.device import training_on
from client.training.fitter import round_seed
from client.training.memory import Memory
from client.training.personal_models import keep_beside
from client.training.pseudo_labels import Checkpoints, with_pseudo_labels
from client.training.records import Records
from client.training.residual import pack_update
from client.training.rule import Rule
from client.training.rules import rule_of
from client.training.steps import Stopped
from shared_models.blocks.spec import NETWORK_FITS, Grouping
from shared_models.catalogue import build, spec_of
from shared_models.compression import compression_of, packed_layout
from shared_models.core.arrays import State
from shared_models.core.choices import look_up
from shared_models.core.errors import FedILDError
from shared_models.core.state import digest
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.phases import PREFIX, Phase, phase_at, trained, training_of

if TYPE_CHECKING:
    from client.training.personal import Mixed

log = logging.getLogger("fedild.worker")


class Worker:
    """One hospital. Keeps its records in memory between rounds.

    Parameters
    ----------
    site : Site
        The site TOML.
    guards : Guards, optional
        What a deployed worker has besides: approvals, audit log, signing key and memory of its answers. A simulated one has none.
    """

    def __init__(self, site: Site, *, guards: Guards | None = None) -> None:
        self.site, self.guards = site, guards
        self._ready: dict[str, tuple[Records, Records]] = {}

    def handle(self, job: Job) -> Update:
        """Do what `job` asks and return what may leave.

        The steps, in order: approval, ledger's receipt, policy, data, fit (which charges the ledger before its first private step), gate.

        Raises
        ------
        Stopped
            The worker was told to end; nothing else is ever raised.
        """
        empty = Update(run=job.run, round=job.round, site=self.site.site.name)
        if job.kind == "hello":
            return empty
        with training_on(self.site.site.device):
            update = self._attempt(job, empty)
        if self.guards is not None:
            self.guards.note(job, update)
        return update

    def _attempt(self, job: Job, empty: Update) -> Update:
        try:
            experiment = Experiment.from_json(job.experiment)
            if self.guards is None:
                return answer_stage(job, experiment, empty, self.site, self._member()) if job.kind in STAGES else self._work(job, experiment, empty)
            self.guards.approvals.check_experiment(experiment)
            if job.kind in STAGES:
                return answer_stage(job, experiment, empty, self.site, self._member())
            if (known := self.guards.answers.find(job)) is not None:
                write_down(known, self._record, again=True)
                return known
            update = self._work(job, experiment, empty)
            self.guards.answers.keep(job, update)
            return update
        except Stopped:
            raise
        except FedILDError as error:
            log.warning("round %s refused: %s", job.round, error)
            return replace(empty, code=outward(error.code))
        except MemoryError:
            log.exception("round %s: out of memory", job.round)
            return replace(empty, code="E_MEMORY")
        except Exception:
            log.error("round %s failed: %s", job.round, traceback.format_exc())
            return replace(empty, code="E_WORKER")

    def _work(self, job: Job, experiment: Experiment, empty: Update) -> Update:
        key = None if self.guards is None else self.guards.key
        policy, private = self.site.policy, is_private(experiment)
        if self.guards is not None:
            self.guards.ledger.check_receipt(job.receipts.get(self.site.site.name, ""))
        enforce(experiment, policy)
        phase = phase_at(experiment, job.round) if job.kind == "fit" else training_of(experiment)
        job = whole_job(job, phase, self.site.workspace)
        settings, fitting = phase.settings, phase.number if job.kind == "fit" else None
        spec = phase.spec if fitting is not None and phase.spec else spec_of(experiment.model)
        received = trained(job.state)
        current = phase.changed(job.state) if job.kind == "fit" else received
        seal = sealing(job, settings, self._member(), current if spec.fit in NETWORK_FITS and job.kind == "fit" else None)
        training, validation = self.records(experiment, job.state, fitting=fitting, phase=phase, round=job.round)
        # A judgement comes after its round: what the site has kept of that round is part of what is judged.
        memory = Memory(self.site.workspace / "strategy", self.site.site.name, job.run, job.round + (job.kind == "judge"), experiment.digest)
        if job.kind == "fit":
            checkpoints = Checkpoints(self.site.workspace / "checkpoints", memory.name)
            training = with_pseudo_labels(experiment, phase, job.round, received, training, checkpoints)
        rule, factor = rule_of({name: value for name, value in job.rule.items() if name != "masks"}, job.extra, memory)
        own = self._personal(rule, settings, memory)
        # Every number about patients is spent privacy: under noise none leaves that the noise does not cover.
        measured = {} if private or fitting is not None else measure(settings, own.seen(received) if own else received, validation)
        if job.kind == "judge":
            if own:
                keep_beside(self.site.workspace, job.state, memory.before())
            if spec_of(experiment.model).draws and not private:
                measured |= self._drawn(experiment, settings, own.seen(received) if own else received, training, validation)
            update = replace(empty, metrics=release_metrics(measured, policy))
            return release(update, layout={}, policy=policy, record=self._record, key=key, seal=seal and partial(seal, measured))
        seed = round_seed(experiment.seed, job.round, self.site.site.name)
        training = self._supported(experiment, training, spec.counts, summed=seal is not None)
        if rule.tells_loss and not private and fitting is None:
            measured["received_loss"] = received_loss(settings, received, training)
        steps = None if self.guards is None else self.guards.answers.steps(job, training.names)
        meter = self._meter(job, experiment, training)
        fit = look_up(PRIVATE_FITTERS, spec.fit, kind="private fit") if private else FITTERS[spec.fit]
        paid = {"spend": meter.spend, "summed": seal is not None} if private else {}
        if fitting is not None:
            paid["model"] = phase.statistic
        elif phase.train_only:
            from client.training.resting import resting  # torch is imported by the first network, not by the first table

            rule = resting(rule, settings, frozenset(current))
        began = time.monotonic()
        with nullcontext() if self.guards is None else quiet(self._places):
            begin = own.begin(received) if own else current if fitting is not None else received
            fitted = fit(settings, begin, training, rule=rule, factor=factor, seed=seed, steps=steps, **paid)
            if own:
                # A second model never leaves: it needs no noise, and nothing is spent on it.
                plain = FITTERS[spec.fit]
                fitted = own.end(fitted, received, lambda state, rule: plain(settings, state, training, rule=rule, factor=factor, seed=seed))
        log.info("round %s: %s steps on %s patients in %.2f s", job.round, fitted.steps, training.patients, time.monotonic() - began)
        if private:
            if any(value.any() for value in fitted.state.values()):  # nothing but zeros is of nobody: sums that were paid for already
                meter.check()
        elif fitted.loss is not None:
            measured["train_loss"] = Measured(fitted.loss, training.patients)
        packing = compression_of(experiment.federation.compression) if spec.fit in NETWORK_FITS else None
        state = {key: fitted.state[key] for key in current} if phase.train_only else fitted.state
        if spec.fit in NETWORK_FITS and not private:  # noise falls on every array
            from client.training.used import check_unused  # torch is imported by the first network, not by the first table

            check_unused(settings, state, current, training.inputs.shape[1:])
        if packing is not None:
            state = pack_update(state, current, packing, workspace=self.site.workspace, run=memory.name, round=job.round)
        update = replace(
            empty,
            state=state,
            extra=fitted.extra,
            num_cases=training.patients if private or experiment.data.kind == "studies" else len(training),
            steps=fitted.steps,
            metrics=release_metrics(measured, policy),
            receipt="" if self.guards is None else self.guards.ledger.receipt(),
        )
        return release(
            update,
            layout=_layout(phase, current, training),
            policy=policy,
            record=self._record,
            key=key,
            support=None if private else support_of(training.labels, training.names, len(experiment.data.classes)),
            counts=spec.counts,
            most_steps=max(1, settings.train.steps or settings.train.epochs * math.ceil(len(training) / settings.train.batch)),
            check=self._check_of(phase, spec.fit, experiment, training, summed=seal is not None),
            seal=seal and partial(seal, measured),
        )

    def _check_of(self, phase: Phase, fit: str, experiment: Experiment, training: Records, *, summed: bool) -> Callable[[State], None] | None:
        if phase.after:
            return lambda state: refuse_small_cells(phase, state, self.site.policy.least_per_class(summed=summed))
        return partial(self._check_trees, experiment, training) if fit == "trees" else None

    def _personal(self, rule: Rule, experiment: Experiment, memory: Memory) -> Mixed | None:
        if not rule.personal:
            return None
        from client.training.personal import personal_of  # torch is imported by the first network, not by the first table

        return personal_of(rule, experiment, memory)

    def _drawn(self, experiment: Experiment, settings: Experiment, state: State, training: Records, validation: Records) -> dict[str, Measured]:
        from client.training.generation import generation_metrics  # torch is imported by the first network, not by the first table

        report = self.site.workspace / "generation" / f"{experiment.digest[:16]}.json"
        seed = round_seed(experiment.seed, 0, self.site.site.name)
        return generation_metrics(settings, state, training, validation, seed=seed, report=report)

    def _meter(self, job: Job, experiment: Experiment, training: Records) -> Meter:
        return Meter(self.site, experiment, training.names, job, ledger=None if self.guards is None else self.guards.ledger)

    def _supported(self, experiment: Experiment, training: Records, counts: Mapping[str, str], *, summed: bool) -> Records:
        """Leave out, or refuse, what too few patients stand behind: before training, so that time tells nothing."""
        policy, private = self.site.policy, is_private(experiment)
        kept = supported(
            training.labels,
            training.names,
            len(experiment.data.classes),
            least=max(policy.least_cases(summed=summed), policy.privacy.least_patients if private and self.guards is not None else 0),
            least_per_class=policy.least_per_class(summed=summed),
            per_class=not private and ("class" in counts.values() or (spec_of(experiment.model).tells_classes and not summed)),
        )
        return training if len(kept) == len(training) else training.take(kept)

    def _check_trees(self, experiment: Experiment, training: Records, state: State) -> None:
        model = build(experiment.model, inputs=training.inputs.shape[1], outputs=experiment.data.outputs)
        model.check(state, {})  # first: a malformed tree might have no end
        if isinstance(model, Grouping):
            check_groups(model.groups(state, training.inputs), training.names, self.site.policy.min_per_class)

    @property
    def _places(self) -> tuple[Path, ...]:
        return (*(self.site.workspace / name for name in ("steps", "residual", "strategy")), self.site.folder / "logs")

    def records(
        self, experiment: Experiment, state: State | None = None, *, fitting: int | None = None, phase: Phase | None = None, round: int = 0
    ) -> tuple[Records, Records]:
        """Return the site's training and validation records of `experiment`, split by patient; kept in memory from then on.

        `state` holds the statistics under which they are seen, `fitting` is the number of the one that is being fitted. Where that is a
        calibration, its `phase` and the `round` say what it is fitted on, and nothing is held out.
        """
        if phase is not None and phase.after and state is not None:
            rows = calibration_records(self.records(experiment, state), state, phase, round)
            return rows, rows.take([])
        state = {} if state is None else state
        fits = digest({key: value for key, value in state.items() if key.startswith(PREFIX)}) if experiment.statistics else ""
        key = f"{experiment.digest}/{fitting}/{fits}"
        if key not in self._ready:
            self._ready = {key: seen_records(self.site, experiment, state, fitting=fitting)}
        return self._ready[key]

    def _member(self) -> Member:
        key, peers = (None, None) if self.guards is None else (self.guards.key, self.guards.peers)
        return Member.of(self.site.workspace, self.site.site.name, key=key, peers=peers)

    @property
    def _record(self) -> Path:
        return self.site.workspace / "what-left.jsonl"


def _layout(phase: Phase, state: State, records: Records) -> State:
    experiment, statistic = phase.settings, phase.statistic
    if statistic is None and spec_of(experiment.model).fit in NETWORK_FITS:
        packing = compression_of(experiment.federation.compression)
        return state if packing is None else packed_layout(state, packing)
    model = statistic or build(experiment.model, inputs=records.inputs.shape[1], outputs=experiment.data.outputs)
    return model.contribution(state, records.inputs[:0], records.outcome[:0], seed=0)
