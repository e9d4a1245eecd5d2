"""What the site's numbers will refuse of a private experiment, told before anything runs: patients, one run's epsilon, the lifetime's."""

from __future__ import annotations

import math

from client.privacy.accountant import epsilon
from client.privacy.ledger import SLACK, Ledger, patients_of
from client.privacy.plan import steps_of
from client.privacy.policy import is_private
from client.privacy.support import few
from client.selection import training_names
from client.site import Site
from client.training.units import noise_adds_up
from shared_models.catalogue import spec_of
from shared_models.core.errors import BadCohort, Refused
from shared_models.experiment import Experiment
from shared_models.phases import phases_of


def foreseen(experiment: Experiment, site: Site) -> list[Refused]:
    """Return the refusals that a whole run of `experiment` would meet at `site`; none where no data is prepared there yet.

    Only the hospital can ask this: the answers depend on its numbers of patients.
    """
    sigma, limits = experiment.privacy.noise_multiplier, site.policy.privacy
    if not is_private(experiment) or sigma is None:
        return []
    summed = experiment.federation.secure_sum is not None
    try:
        names = training_names(site, experiment)
    except BadCohort:
        return []
    count = len(set(names))
    if count < max(limits.least_patients, site.policy.least_cases(summed=summed)):
        return [few()]
    run: list[tuple[float, float, int]] = []
    for phase in phases_of(experiment):
        sums = phase.number is not None or spec_of(experiment.model).fit == "sums"
        q, steps = (1.0, 1) if sums else steps_of(phase.settings, count)
        # Where the noise of the sites does not add up, a site's share of it is all the noise that is claimed.
        whole = summed and (sums or noise_adds_up(phase.settings, steps))
        run.append((sigma if whole else sigma / math.sqrt(experiment.privacy.noise_share), q, steps * phase.rounds))
    found = []
    if limits.epsilon_per_run is not None and not (spent := epsilon(run, limits.delta)) <= limits.epsilon_per_run + SLACK:
        found.append(_too_much("one run", spent, limits.epsilon_per_run, "E_BUDGET_RUN"))
    if limits.epsilon_limit is not None:
        if (site.folder / "secrets" / "approver.key").exists():
            spent = Ledger(site.folder).spent(patients_of(site, experiment, names), delta=limits.delta, more=tuple(run))
        else:
            spent = epsilon(run, limits.delta)
        if not spent <= limits.epsilon_limit + SLACK:
            found.append(_too_much("its patients in all", spent, limits.epsilon_limit, "E_BUDGET"))
    return found


def _too_much(what: str, spent: float, limit: float, code: str) -> Refused:
    remedy = f"`fedild privacy plan` finds the noise; the limit of {what} is {limit:g}"
    return Refused(f"a whole run must stay within what this site allows {what}", value=f"epsilon {spent:.3f}", remedy=remedy, code=code)
