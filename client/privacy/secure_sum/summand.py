"""Where the worker meets the secure sum: which jobs are its stages, and how a released update becomes masked words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from client.privacy.gate import Measured, write_down
from client.privacy.policy import enforce
from client.privacy.secure_sum.keys import offer_keys, share_keys
from client.privacy.secure_sum.mask import masked, member_count
from client.privacy.secure_sum.member import Member
from client.privacy.secure_sum.unmask import agree, unmask
from client.site import Site
from shared_models.core.arrays import State
from shared_models.core.errors import Refused
from shared_models.core.state import norm, subtract
from shared_models.experiment import Experiment, SecureSum
from shared_models.messages import Job, Update, signed_bytes
from shared_models.secure_sum.vector import Part, encode
from shared_models.signing import sign

STAGES = ("keys", "shares", "agree", "unmask")

Seal = Callable[[Mapping[str, Measured], Update], Update]


def answer_stage(job: Job, experiment: Experiment, empty: Update, site: Site, member: Member) -> Update:
    """Answer a stage of the secure sum.

    Raises
    ------
    Refused
        A code of the policy, of the stage, or E_SECURE_SUM when the experiment does not ask for it.
    """
    enforce(experiment, site.policy)
    settings = experiment.federation.secure_sum
    if settings is None:
        raise Refused("a secure sum is asked for by the experiment that the site approved", code="E_SECURE_SUM")
    extra = stage_arrays(member, job, settings, quorum=experiment.federation.quorum)
    update = replace(empty, extra=extra)
    write_down(update, site.workspace / "what-left.jsonl")
    return update if member.key is None else replace(update, signature=sign(member.key, signed_bytes(update)))


def stage_arrays(member: Member, job: Job, settings: SecureSum, *, quorum: int) -> State:
    """Return the arrays that answer a job of the kind keys, shares, agree or unmask."""
    if job.kind == "keys":
        return offer_keys(member, job)
    if job.kind == "shares":
        return share_keys(member, job, settings)
    return agree(member, job, quorum) if job.kind == "agree" else unmask(member, job, quorum)


def sealing(job: Job, experiment: Experiment, member: Member, current: State | None) -> Seal | None:
    """Return what turns a released update into masked words, None where the experiment has no secure sum.

    Parameters
    ----------
    job, experiment, member
        What is asked, under which settings, and who answers.
    current : State or None
        The weights from which changes are counted; None for exact sums and for a judgement.

    Raises
    ------
    Refused
        E_SECURE_SUM: the job asks for the update in clear, or for masks that were not agreed on.
    """
    wanted = experiment.federation.secure_sum is not None
    if wanted != ("masks" in job.rule):
        raise Refused("updates are masked exactly where the approved experiment says so", code="E_SECURE_SUM")
    if not wanted:
        return None
    members = member_count(member, job)

    def seal(measured: Mapping[str, Measured], update: Update) -> Update:
        if current is not None and not norm(subtract(update.state, current)) <= experiment.federation.max_update_norm:
            raise Refused("an update stays within the agreed norm", code="E_NORM")  # the server can no longer see it
        metrics = {name: (measured[name].cases, value) for name, value in update.metrics.items()}
        cases = update.num_cases if job.kind == "fit" else 1
        words = encode(Part(update.state, cases, metrics), current, experiment, sites=members)
        return masked(member, job, update, words)

    return seal
