"""APFL's rule: a second model of the site's own, used in a mixture with the global one whose share the site learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from client.training.memory import Memory
from client.training.optimisers import Optimiser
from client.training.personal_models import ALPHA, PERSONAL
from client.training.rule import Plain, Slope
from client.training.stand import part_of
from shared_models.blocks.spec import ModelSpec


class Apfl(Plain):
    """Plain steps of w, and beside them v in the mixture ``m = alpha v + (1 - alpha) w`` (Deng, Kamani & Mahdavi, 2020, algorithm 1).

    ``v -= lr alpha g(m)``, on the batch on which w steps. Once a round, at its first step, ``alpha -= adapt <v - w, g(m)>``, kept within 0
    and 1 (equation 10): a site whose data call for a model of its own moves towards it. Nothing of v or alpha reaches w, which is FedAvg's.

    Parameters
    ----------
    alpha : float
        The share of the site's own model in its first round.
    adapt : float
        Step size of the share; 0 leaves it as it is.
    memory : Memory, optional
        Where v and alpha lie between rounds.
    """

    personal = True

    def __init__(self, alpha: float, adapt: float, memory: Memory | None) -> None:
        self.alpha, self.adapt, self.memory = torch.tensor(alpha, dtype=torch.float64), adapt, memory
        self.parts: Mapping[str, slice] = {}
        self.shapes: dict[str, torch.Size] = {}
        self.optimiser: Optimiser | None = None
        self.own = torch.zeros(0)

    def meet(self, network: nn.Module, spec: ModelSpec, optimiser: Callable[[], Optimiser]) -> None:
        """Take an optimiser of its own for v."""
        del spec
        self.shapes = {key: value.shape for key, value in network.named_parameters()}
        self.optimiser = optimiser()

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Remember the places."""
        del steps
        self.parts = parts

    def start(self, weights: Tensor) -> None:
        """Read v and alpha from the site's disk; v begins as the global model."""
        self.own = weights.clone()
        known = {} if self.memory is None else self.memory.before()
        if known:
            self.alpha = torch.tensor(float(known[ALPHA]), dtype=torch.float64)
            for key, value in part_of(known, PERSONAL).items():
                self.own[self.parts[key]] = torch.from_numpy(value).to(weights).reshape(-1)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take v, alpha and the momenta of v."""
        self.own, self.alpha = state["own"].to(self.own), state["alpha"].cpu()
        if self.optimiser is not None:
            self.optimiser.load({key: value for key, value in state.items() if key not in ("own", "alpha")})

    def beside(self, weights: Tensor, slope: Slope, factor: float) -> None:
        """Step v, and in the round's first step alpha."""
        gradient = slope(torch.lerp(weights, self.own, float(self.alpha)))
        if not bool(gradient.isfinite().all()) or self.optimiser is None:
            return  # in 16 bits it may overflow: such a step is left out, as the network's own is
        share = float(self.alpha)
        if self.step == 1:
            self.alpha = (self.alpha - self.adapt * float((self.own - weights).double() @ gradient.double())).clamp(0.0, 1.0)
        self.optimiser.step(self.own, share * gradient, factor)

    def state(self) -> dict[str, Tensor]:
        """Return v, alpha and the momenta of v."""
        momenta = {} if self.optimiser is None else self.optimiser.state()
        return {**momenta, "own": self.own, "alpha": self.alpha}

    def finish(self, weights: Tensor, factor: float) -> None:
        """Keep v and alpha."""
        del weights, factor
        if self.memory is not None:
            own = {f"{PERSONAL}/{key}": self.own[part].reshape(self.shapes[key]).detach().cpu().numpy() for key, part in self.parts.items()}
            self.memory.keep({**own, ALPHA: np.array(float(self.alpha))})
