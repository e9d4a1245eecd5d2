"""The resident worker: the hospital's own process that owns data, device, policy and gate. A Job goes in, what the gate released comes out.

The Flower messenger (`client/app`) never touches data: it hands the Job to this worker over a Unix socket, in the simulation by a call.
Whatever goes wrong in here leaves as a fixed code; the text stays in the site's own log.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

from client.guards import Guards
from client.privacy.gate import Measured, release, release_metrics, write_down
from client.privacy.masking import Masking
from client.privacy.policy import enforce
from client.privacy.spending import Spend
from client.privacy.statement import spoken, statement
from client.privacy.summand import STAGES, answer_stage, sealing
from client.selection import measure, split_records
from client.site import Site
from client.training import FITTERS, PRIVATE_FITTERS
from client.training.device import training_on
from client.training.fitter import round_seed
from client.training.records import Records
from client.training.residual import pack_update
from client.training.rules import rule_of
from client.training.steps import Stopped
from shared_models.catalogue import build, spec_of
from shared_models.compression import compression_of, packed_layout
from shared_models.core.arrays import State
from shared_models.core.choices import look_up
from shared_models.core.errors import FedILDError, Refused
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update

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

        The steps, in order: approval, policy, data, fit (which says what privacy it will spend before its first step), gate.

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
                return answer_stage(job, experiment, empty, self.site, self._masking()) if job.kind in STAGES else self._work(job, experiment, empty)
            self.guards.approvals.check_experiment(experiment)
            if job.kind in STAGES:
                return answer_stage(job, experiment, empty, self.site, self._masking())
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
            return replace(empty, code=error.code)
        except MemoryError:
            log.exception("round %s: out of memory", job.round)
            return replace(empty, code="E_MEMORY")
        except Exception:
            log.error("round %s failed: %s", job.round, traceback.format_exc())
            return replace(empty, code="E_WORKER")

    def _work(self, job: Job, experiment: Experiment, empty: Update) -> Update:
        key = None if self.guards is None else self.guards.key
        enforce(experiment, self.site.policy)
        seal = sealing(job, experiment, self._masking())
        training, validation = self.records(experiment)
        private = experiment.privacy.at_sites
        # Every number about patients is spent privacy: under noise none leaves that the noise does not cover.
        measured = {} if private else measure(experiment, job.state, validation)
        if job.kind == "judge":
            update = replace(empty, metrics=release_metrics(measured, self.site.policy))
            return release(update, layout={}, policy=self.site.policy, record=self._record, key=key, seal=seal and partial(seal, measured))
        if len(training) < self.site.policy.min_cases:  # the gate would say the same after the work; before it, no other code can tell how few
            raise Refused("a site with too few patients sends no model", remedy="take part with more patients", code="E_FEW_CASES")
        rule, factor = rule_of({name: value for name, value in job.rule.items() if name != "masks"}, job.extra)
        began = time.monotonic()
        seed = round_seed(experiment.seed, job.round, self.site.site.name)
        spec = spec_of(experiment.model)
        steps = None if self.guards is None else self.guards.answers.steps(job, training.names)
        if private:
            fit = look_up(PRIVATE_FITTERS, spec.fit, kind="private fit")
            summed = seal is not None
            fitted = fit(experiment, job.state, training, rule=rule, factor=factor, seed=seed, steps=steps, spend=self._spend, summed=summed)
        else:
            fitted = FITTERS[spec.fit](experiment, job.state, training, rule=rule, factor=factor, seed=seed, steps=steps)
        log.info("round %s: %s steps on %s patients in %.2f s", job.round, fitted.steps, training.patients, time.monotonic() - began)
        if fitted.loss is not None:
            measured["train_loss"] = Measured(fitted.loss, len(training))
        packing = compression_of(experiment.federation.compression) if spec.fit == "gradient" else None
        state = fitted.state
        if packing is not None:
            state = pack_update(state, job.state, packing, workspace=self.site.workspace, run=job.run, round=job.round)
        update = replace(
            empty,
            state=state,
            extra=fitted.extra,
            num_cases=training.patients if private or experiment.data.kind == "studies" else len(training),
            steps=fitted.steps,
            metrics=release_metrics(measured, self.site.policy),
        )
        layout = _layout(experiment, job.state, training)
        return release(update, layout=layout, policy=self.site.policy, record=self._record, key=key, seal=seal and partial(seal, measured))

    def _spend(self, spent: Spend) -> None:
        """Hear what privacy a round is about to spend; what this raises ends the round before its first step."""
        log.info("%s", spoken(statement([spent])))

    def records(self, experiment: Experiment) -> tuple[Records, Records]:
        """Return the site's training and validation records of `experiment`, split by patient; kept in memory from then on."""
        if experiment.digest not in self._ready:
            self._ready = {experiment.digest: split_records(self.site, experiment)}
        return self._ready[experiment.digest]

    def _masking(self) -> Masking:
        key, peers = (None, None) if self.guards is None else (self.guards.key, self.guards.peers)
        return Masking.of(self.site.workspace, self.site.site.name, key=key, peers=peers)

    @property
    def _record(self) -> Path:
        return self.site.workspace / "what-left.jsonl"


def _layout(experiment: Experiment, state: State, records: Records) -> State:
    spec = spec_of(experiment.model)
    if spec.fit == "gradient":
        packing = compression_of(experiment.federation.compression)
        return state if packing is None else packed_layout(state, packing)
    model = build(experiment.model, inputs=records.inputs.shape[1], outputs=len(experiment.data.classes))
    return model.contribution(state, records.inputs[:0], records.labels[:0], seed=0)
