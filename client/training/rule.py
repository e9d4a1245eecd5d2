"""What a rule is: the site's half of a strategy within one round."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from client.training.optimisers import Optimiser
from client.training.per_unit import Loss
from shared_models.blocks.spec import ModelSpec

Slope = Callable[[Tensor], Tensor]
"""Weights to the gradient of a batch's mean loss there, both flat."""


class Rule(Protocol):
    """The site's half of a strategy within one round; its methods are called in this order.

    Parameters
    ----------
    step : int
        Counts the optimiser's steps from 1; the training loop sets it.
    personal : bool
        Whether something is the site's own (`client/training/personal`).
    keep : tuple of str
        Parts of the network that are the site's own; empty when none are.
    keys : frozenset of str
        The names of the arrays that `keep` means; `personal_of` sets it.
    pull : float
        Strength with which a second, personal model is pulled towards the global one; 0 without one.
    tells_loss : bool
        Whether the loss of the received state on the training patients goes along with the update.
    """

    step: int
    personal: bool
    keep: tuple[str, ...]
    keys: frozenset[str]
    pull: float
    tells_loss: bool

    def meet(self, network: nn.Module, spec: ModelSpec, optimiser: Callable[[], Optimiser]) -> None:
        """See the network, with the global weights in it, its line of the catalogue, and how the round's optimiser is made."""
        ...

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """See where each parameter lies in the flat vectors, and how many steps the round has."""
        ...

    def start(self, weights: Tensor) -> None:
        """See the global weights before the first step."""
        ...

    def loss(self, plain: Loss) -> Loss:
        """Return the loss of each record. Under differential privacy it is clipped and covered by the noise like any other."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on inside the round from where `state` was taken."""
        ...

    def watching(self, network: nn.Module) -> contextlib.AbstractContextManager[object]:
        """Return the context of the forward passes whose loss is asked for."""
        ...

    def beside(self, weights: Tensor, slope: Slope, factor: float) -> None:
        """Take a step of a second model, before the network's own. Under privacy `slope` has no noise: nothing of it may reach `weights`."""
        ...

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Change `gradient` in place before the optimiser's step. Under differential privacy this happens after the noise."""
        ...

    def moved(self, weights: Tensor, factor: float) -> None:
        """Change `weights` in place after the optimiser's step; `factor` is that on the learning rate."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what the next step depends on, beside what `start` finds."""
        ...

    def finish(self, weights: Tensor, factor: float) -> None:
        """See the weights after the last step, and keep on the site's disk what the next round needs."""
        ...


class Plain:
    """Local steps as they are (FedAvg and every strategy that acts at the server alone); the other rules change what they need."""

    step: int = 0
    personal: bool = False
    keep: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    pull: float = 0.0
    tells_loss: bool = False

    def meet(self, network: nn.Module, spec: ModelSpec, optimiser: Callable[[], Optimiser]) -> None:
        """Keep nothing."""

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Keep nothing."""

    def start(self, weights: Tensor) -> None:
        """Keep nothing."""

    def loss(self, plain: Loss) -> Loss:
        """Leave the loss."""
        return plain

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Need nothing."""

    def watching(self, network: nn.Module) -> contextlib.AbstractContextManager[object]:
        """Watch nothing."""
        return contextlib.nullcontext()

    def beside(self, weights: Tensor, slope: Slope, factor: float) -> None:
        """Have no second model."""

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Leave the gradient."""

    def moved(self, weights: Tensor, factor: float) -> None:
        """Leave the weights."""

    def state(self) -> dict[str, Tensor]:
        """Need nothing."""
        return {}

    def finish(self, weights: Tensor, factor: float) -> None:
        """Keep nothing."""
