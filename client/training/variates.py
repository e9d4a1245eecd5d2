"""Rules that steer local steps by what the site learnt in earlier rounds: SCAFFOLD's control variates, FedDyn's dynamic regulariser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from client.training.memory import Memory
from client.training.rule import Plain
from shared_models.core.arrays import State

VARIATE = "c/"
"""Before a parameter's name: the mean drift of all sites, as the server sends it."""


class Scaffold(Plain):
    """Take the site's own drift out of each step and put that of all sites in (Karimireddy et al., ICML 2020, equations 3 and 4, option II).

    Drifts are kept as what one step moves the weights, learning rate included: ``s_i = (w - w_i) / (K factor)`` after K steps. Then neither
    end needs to know the learning rate, and with plain SGD a step is the published ``-lr (g - c_i + c)`` exactly.
    """

    def __init__(self, extra: State, memory: Memory | None) -> None:
        self.extra, self.memory = extra, memory
        self.parts: Mapping[str, slice] = {}
        self.steps = 1
        self.anchor = self.own = self.all = torch.zeros(0)

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Remember both."""
        self.parts, self.steps = parts, steps

    def start(self, weights: Tensor) -> None:
        """Read the drift of all sites from what the server sent and the site's own from its disk."""
        self.anchor = weights.clone()
        self.all = torch.zeros_like(weights)
        for key, part in self.parts.items():
            if VARIATE + key in self.extra:
                self.all[part] = torch.from_numpy(self.extra[VARIATE + key]).to(weights).reshape(-1)
        self.own = _remembered(self.memory, self.extra, weights)

    def moved(self, weights: Tensor, factor: float) -> None:
        """``w += factor (s_i - s)``."""
        weights.add_(self.own - self.all, alpha=factor)

    def finish(self, weights: Tensor, factor: float) -> None:
        """``s_i += (w - w_i) / (K factor) - s``."""
        if self.memory is not None:
            own = self.own - self.all + (self.anchor - weights) / (self.steps * factor)
            self.memory.keep({"own": own.cpu().numpy()}, self.extra)


class FedDyn(Plain):
    """Pull towards the global model and along what earlier rounds pulled back (Acar et al., ICLR 2021, algorithm 1).

    ``g += alpha (w - w_global) - lambda_i``; after the round ``lambda_i -= alpha (w_i - w_global)``, so that at the end all sites stand
    still at the optimum of their sum, each with its own gradient in ``lambda_i``.
    """

    def __init__(self, alpha: float, extra: State, memory: Memory | None) -> None:
        self.alpha, self.extra, self.memory = alpha, extra, memory
        self.anchor = self.own = torch.zeros(0)

    def start(self, weights: Tensor) -> None:
        """Remember the global weights and read lambda from the site's disk."""
        self.anchor, self.own = weights.clone(), _remembered(self.memory, self.extra, weights)

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Add both terms."""
        gradient.add_(weights - self.anchor, alpha=self.alpha).sub_(self.own)

    def finish(self, weights: Tensor, factor: float) -> None:
        """Keep the next lambda."""
        del factor
        if self.memory is not None:
            self.memory.keep({"own": (self.own - self.alpha * (weights - self.anchor)).cpu().numpy()}, self.extra)


def _remembered(memory: Memory | None, extra: State, weights: Tensor) -> Tensor:
    known = {} if memory is None else memory.counted(extra)
    return torch.from_numpy(known["own"]).to(weights) if known else torch.zeros_like(weights)
