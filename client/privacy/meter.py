"""The meter between a private trainer and the site's ledger: the trainer says what it is about to spend, the ledger says yes or the round ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from client.privacy.chain import Patients
from client.privacy.ledger import Ledger, Limits, patients_of
from client.privacy.quiet import lifted
from client.privacy.spending import Spend
from client.privacy.statement import spoken, statement
from client.site import Site
from shared_models.core.errors import Refused
from shared_models.experiment import Experiment
from shared_models.messages import Job

log = logging.getLogger("fedild.worker")


class Meter:
    """Charges one round.

    Parameters
    ----------
    site : Site
        Whose policy limits.
    experiment : Experiment
        Its `[privacy]` must be what is spent.
    names : sequence of str
        Pseudonyms of the training records.
    job : Job
        Run and round.
    ledger : Ledger, optional
        A simulated site has none: the spend is checked and not kept.
    """

    def __init__(self, site: Site, experiment: Experiment, names: Sequence[str], job: Job, *, ledger: Ledger | None) -> None:
        self.site, self.experiment, self.job, self.ledger = site, experiment, job, ledger
        self.names = tuple(names)
        self.spent: list[Spend] = []

    def spend(self, spend: Spend) -> None:
        """Charge the ledger; call it before the first step of a round.

        Raises
        ------
        Refused
            E_BUDGET, E_BUDGET_RUN, E_LEDGER; E_POLICY_NOISE or E_SPEND when it is not what the experiment says.
        """
        asked, limits = self.experiment.privacy, self.site.policy.privacy
        if spend.unit != asked.unit or (spend.unit == "patient" and spend.patients != len(set(self.names))):
            raise Refused("a spend is of the experiment's unit and of the site's patients", code="E_SPEND")
        if limits.least_noise is not None and spend.sigma < limits.least_noise:
            raise Refused("private training needs as much noise as this site asks for", code="E_POLICY_NOISE")
        if self.ledger is not None:
            with lifted():
                budget = Limits(limits.epsilon_limit, limits.epsilon_per_run, limits.delta)
                self.ledger.charge(self._patients(), spend, run=self.job.run, round=self.job.round, limits=budget)
        self.spent.append(spend)
        log.info("round %s: %s", self.job.round, spoken(statement([spend])))

    def check(self) -> None:
        """Refuse a private update that was never paid for.

        Raises
        ------
        Refused
            E_UNCHARGED.
        """
        if self.spent or (self.ledger is not None and self.ledger.has(self._patients(), run=self.job.run, round=self.job.round)):
            return
        raise Refused(
            "a private update is charged before its first step", remedy="choose a model and strategy that can be private", code="E_UNCHARGED"
        )

    def _patients(self) -> Patients:
        return patients_of(self.site, self.experiment, self.names)
