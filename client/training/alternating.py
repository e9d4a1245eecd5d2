"""FedRep's rule: first the site's own head, then the shared body."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from client.training.rule import Plain


class FedRep(Plain):
    """Train the personal part alone for `head_share` of the steps, then the shared part alone (Collins et al., ICML 2021, algorithm 1).

    What rests is put back after each step, so that neither momentum nor weight decay moves it.
    """

    personal = True

    def __init__(self, keep: tuple[str, ...], head_share: float) -> None:
        self.keep, self.head_share = keep, head_share
        self.parts: Mapping[str, slice] = {}
        self.head_steps = 0
        self.own = torch.zeros(0, dtype=torch.bool)
        self.still = torch.zeros(0)

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Count the steps of the personal part."""
        self.parts, self.head_steps = parts, round(self.head_share * steps)

    def start(self, weights: Tensor) -> None:
        """Mark the personal part."""
        self.own = torch.zeros_like(weights, dtype=torch.bool)
        for key, part in self.parts.items():
            self.own[part] = key in self.keys

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Let what rests have no gradient."""
        self.still = weights.clone()
        gradient.masked_fill_(self._resting(), 0.0)

    def moved(self, weights: Tensor, factor: float) -> None:
        """Put what rests back."""
        del factor
        torch.where(self._resting(), self.still, weights, out=weights)

    def _resting(self) -> Tensor:
        return ~self.own if self.step <= self.head_steps else self.own
