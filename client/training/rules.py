"""RULES: what a strategy changes in the sites' gradient steps. The name is the one the server's strategy gives in its `rule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol

from pydantic import Field
from torch import Tensor

from shared_models.core.arrays import State
from shared_models.core.choices import Choice, pick


class Rule(Protocol):
    """The site's half of a strategy within one round."""

    def start(self, weights: Tensor) -> None:
        """See the global weights before the first step."""
        ...

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Change `gradient` in place before the optimiser's step. Under differential privacy this happens after the noise."""
        ...


class Plain:
    """Local steps as they are (FedAvg and every strategy that acts at the server alone)."""

    def start(self, weights: Tensor) -> None:
        """Keep nothing."""

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Leave the gradient."""


class FedProx:
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


def plain(extra: State) -> Rule:
    """Build the plain rule."""
    return Plain()


def fedprox(extra: State, *, mu: Annotated[float, Field(ge=0)]) -> Rule:
    """Build FedProx's rule with strength `mu`."""
    return FedProx(mu)


RULES: dict[str, Callable[..., Rule]] = {"plain": plain, "fedprox": fedprox}


def rule_of(numbers: Mapping[str, Any], extra: State) -> tuple[Rule, float]:
    """Return the rule that a Job names and the factor on the learning rate in this round.

    Examples
    --------
    >>> rule, factor = rule_of({"name": "fedprox", "mu": 0.1, "lr_factor": 0.5}, {})
    >>> rule.mu, factor
    (0.1, 0.5)
    """
    knobs = dict(numbers)
    factor = float(knobs.pop("lr_factor", 1.0))
    return pick(RULES, Choice(**(knobs or {"name": "plain"})), kind="rule")(extra), factor
