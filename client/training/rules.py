"""RULES: what a strategy changes in the sites' gradient steps. The name is the one the server's strategy gives in its `rule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from client.training.alternating import FedRep
from client.training.contrast import Moon
from client.training.memory import Memory
from client.training.mixture import Apfl
from client.training.rule import Plain, Rule
from client.training.variates import FedDyn, Scaffold
from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick


class FedProx(Plain):
    """Pull towards the global model: ``g += mu (w - w_global)`` (Li et al., MLSys 2020, equation 2)."""

    def __init__(self, mu: float) -> None:
        self.mu = mu
        self.anchor: Tensor | None = None

    def start(self, weights: Tensor) -> None:
        """Remember the global weights."""
        self.anchor = weights.clone()

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Add the proximal term."""
        if self.anchor is not None:
            gradient.add_(weights - self.anchor, alpha=self.mu)


class Personal(Plain):
    """Plain steps with parts of the network that are the site's own (FedBN, FedPer)."""

    personal = True

    def __init__(self, keep: tuple[str, ...]) -> None:
        self.keep = keep


class Ditto(Plain):
    """Plain steps, and a second model of the site's own beside them (Li et al., ICML 2021, algorithm 1)."""

    personal = True

    def __init__(self, pull: float) -> None:
        self.pull = pull


class ReceivedLoss(Plain):
    """Plain steps; the loss of the received state goes along (q-FedAvg)."""

    tells_loss = True


def plain(extra: State, memory: Memory | None) -> Rule:
    """Build the plain rule."""
    return Plain()


def fedprox(extra: State, memory: Memory | None, *, mu: Annotated[float, Field(ge=0)]) -> Rule:
    """Build FedProx's rule with strength `mu`."""
    return FedProx(mu)


def scaffold(extra: State, memory: Memory | None) -> Rule:
    """Build SCAFFOLD's rule."""
    return Scaffold(extra, memory)


def feddyn(extra: State, memory: Memory | None, *, alpha: Annotated[float, Field(gt=0)]) -> Rule:
    """Build FedDyn's rule with strength `alpha`."""
    return FedDyn(alpha, extra, memory)


def personal(extra: State, memory: Memory | None, *, keep: Annotated[tuple[str, ...], Field(min_length=1)]) -> Rule:
    """Build the rule of FedBN and FedPer: the parts `keep` are the site's own."""
    return Personal(keep)


def fedrep(
    extra: State, memory: Memory | None, *, keep: Annotated[tuple[str, ...], Field(min_length=1)], head_share: Annotated[float, Field(ge=0, le=1)]
) -> Rule:
    """Build FedRep's rule: the parts `keep` are the site's own and train for the first `head_share` of the steps."""
    return FedRep(keep, head_share)


def ditto(extra: State, memory: Memory | None, *, pull: Annotated[float, Field(gt=0)]) -> Rule:
    """Build Ditto's rule with strength `pull`."""
    return Ditto(pull)


def received_loss(extra: State, memory: Memory | None) -> Rule:
    """Build q-FedAvg's rule."""
    return ReceivedLoss()


def moon(extra: State, memory: Memory | None, *, mu: Annotated[float, Field(ge=0, le=20)], tau: Annotated[float, Field(ge=0.05, le=10)]) -> Rule:
    """Build MOON's rule with weight `mu` and temperature `tau`."""
    return Moon(mu, tau, memory)


def apfl(extra: State, memory: Memory | None, *, alpha: Annotated[float, Field(ge=0, le=1)], adapt: Annotated[float, Field(ge=0, le=10)]) -> Rule:
    """Build APFL's rule with a first share `alpha` of the site's own model and step size `adapt` of that share."""
    return Apfl(alpha, adapt, memory)


RULES: dict[str, Callable[..., Rule]] = {
    "plain": plain,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "feddyn": feddyn,
    "personal": personal,
    "fedrep": fedrep,
    "ditto": ditto,
    "received_loss": received_loss,
    "moon": moon,
    "apfl": apfl,
}


def rule_of(numbers: Mapping[str, Any], extra: State, memory: Memory | None = None) -> tuple[Rule, float]:
    """Return the rule that a Job names and the factor on the learning rate in this round; without `memory` nothing outlives the round.

    Examples
    --------
    >>> rule, factor = rule_of({"name": "fedprox", "mu": 0.1, "lr_factor": 0.5}, {})
    >>> rule.mu, factor
    (0.1, 0.5)
    """
    knobs = dict(numbers)
    factor = float(knobs.pop("lr_factor", 1.0))
    return pick(RULES, Choice(**(knobs or {"name": "plain"})), kind="rule")(extra, memory), factor
