"""What a server holds of one site under the secure sum: the site's own masked words, made by the real protocol between three sites."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.privacy.secure_sum.mask import masked, member_count
from client.privacy.secure_sum.member import Member
from client.privacy.secure_sum.summand import stage_arrays
from server.runs.secure import SecureSum
from shared_models.core.arrays import State
from shared_models.core.errors import BadState
from shared_models.experiment import Experiment
from shared_models.messages import Job, Update
from shared_models.secure_sum.fixed_point import decode_change
from shared_models.secure_sum.vector import Part, encode


def masked_gradient(experiment: Experiment, state: State, updates: Mapping[str, State], *, site: str) -> State:
    """Return the gradient that `site`'s masked message seems to show when it is read as if it were in clear.

    Parameters
    ----------
    experiment : Experiment
        Of gradients.
    state : State
        Global weights.
    updates : mapping
        What each of at least three sites has learnt, by name.
    site : str
        Whose message is read.

    Raises
    ------
    BadState
        The sum itself did not come about: the message would not be a real one.
    """
    document = experiment.model_dump(mode="json", exclude_none=True)
    moved = max(float(np.abs(np.subtract(one[key], state[key], dtype=np.float64)).max(initial=0)) for one in updates.values() for key in state)
    masks = {"largest_change": 2 * moved + 1e-3}
    federation = {**document["federation"], "quorum": len(updates), "compression": {"name": "none"}, "secure_sum": masks}
    document |= {"federation": federation, "strategy": {"name": "fedavg", "weighting": "equal"}, "privacy": {}}
    summed = Experiment.model_validate(document)
    settings = summed.federation.secure_sum
    if settings is None:
        raise BadState("the experiment must ask for the secure sum")
    words: dict[str, State] = {}
    with tempfile.TemporaryDirectory() as folder:
        members = {name: Member.of(Path(folder) / name, name, key=None, peers=None) for name in updates}

        def ask(jobs: Mapping[str, Job], timeout_s: float) -> Iterator[tuple[str, Update | str]]:
            del timeout_s
            for name, job in jobs.items():
                member, empty = members[name], Update(run=job.run, round=job.round, site=name)
                if job.kind != "fit":
                    yield name, replace(empty, extra=stage_arrays(member, job, settings, quorum=len(updates)))
                    continue
                part = Part(updates[name], 1, {})
                update = masked(member, job, replace(empty, state=updates[name]), encode(part, state, summed, sites=member_count(member, job)))
                words[name] = {key: value.copy() for key, value in update.state.items()}
                yield name, update

        job = Job(run="audit", round=1, kind="fit", state=state, experiment=summed.to_json())
        total = SecureSum(summed, run="audit").sum(job, ask, sites=updates, current=state).total
    if total is None:
        raise BadState("a secure sum of the audit comes about")
    read = decode_change(words[site]["change"], sites=len(updates), largest=settings.largest_change)
    found, at = {}, 0
    for key in sorted(key for key, value in state.items() if value.dtype.kind == "f"):
        found[key] = -read[at : at + state[key].size].reshape(state[key].shape).astype(np.float64)
        at += state[key].size
    return found
