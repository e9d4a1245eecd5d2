"""What a rule is: the site's half of a strategy within one round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Rule(Protocol):
    """The site's half of a strategy within one round.

    Parameters
    ----------
    step : int
        Counts the optimiser's steps from 1; the training loop sets it.
    keep : tuple of str
        Parts of the network that are the site's own (`client/training/personal`); empty when none are.
    keys : frozenset of str
        The names of the arrays that `keep` means; `personal_of` sets it.
    pull : float
        Strength with which a second, personal model is pulled towards the global one; 0 without one.
    tells_loss : bool
        Whether the loss of the received state on the training patients goes along with the update.
    """

    step: int
    keep: tuple[str, ...]
    keys: frozenset[str]
    pull: float
    tells_loss: bool

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """See where each parameter lies in the flat vectors, and how many steps the round has."""
        ...

    def start(self, weights: Tensor) -> None:
        """See the global weights before the first step."""
        ...

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Change `gradient` in place before the optimiser's step. Under differential privacy this happens after the noise."""
        ...

    def moved(self, weights: Tensor, factor: float) -> None:
        """Change `weights` in place after the optimiser's step; `factor` is that on the learning rate."""
        ...

    def finish(self, weights: Tensor, factor: float) -> None:
        """See the weights after the last step, and keep on the site's disk what the next round needs."""
        ...


class Plain:
    """Local steps as they are (FedAvg and every strategy that acts at the server alone); the other rules change what they need."""

    step: int = 0
    keep: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    pull: float = 0.0
    tells_loss: bool = False

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Keep nothing."""

    def start(self, weights: Tensor) -> None:
        """Keep nothing."""

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Leave the gradient."""

    def moved(self, weights: Tensor, factor: float) -> None:
        """Leave the weights."""

    def finish(self, weights: Tensor, factor: float) -> None:
        """Keep nothing."""
