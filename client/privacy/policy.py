"""The site's policy against an experiment: every rule with its code; the first that is broken refuses the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared_models.core.errors import Refused
from shared_models.experiment import Experiment

if TYPE_CHECKING:
    from client.site import Policy


def breaches(experiment: Experiment, policy: Policy) -> list[Refused]:
    """Return every rule of `policy` that `experiment` breaks: `fedild check` shows them before anything is sent."""
    found = []
    if not _allowed(experiment.model.name, policy.models):
        found.append(
            Refused(
                "this site allows only listed models",
                value=experiment.model.name,
                remedy=f"allowed: {', '.join(policy.models)}",
                code="E_POLICY_MODEL",
            )
        )
    # Without a name the server chooses: a site that lists strategies must know which.
    strategy = experiment.strategy.name if experiment.strategy else ""
    if not _allowed(strategy, policy.strategies):
        found.append(
            Refused(
                "this site allows only listed strategies",
                value=strategy or "none named",
                remedy=f"allowed: {', '.join(policy.strategies)}",
                code="E_POLICY_STRATEGY",
            )
        )
    return found


def enforce(experiment: Experiment, policy: Policy) -> None:
    """Raise the first breach."""
    for breach in breaches(experiment, policy):
        raise breach


def _allowed(name: str, names: Sequence[str]) -> bool:
    return "*" in names or name in names
