"""Training some of a network's arrays while the others rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from client.training.gradient import warm_model
from client.training.optimisers import Optimiser
from client.training.per_unit import Loss
from client.training.rule import Rule, Slope
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadState
from shared_models.experiment import Experiment


class Resting:
    """A rule under which only the arrays `keys` are trained; all else is as `rule` says.

    What rests asks for no gradient, so that nothing is computed for it, and is put back after each step: neither momentum nor weight decay
    moves it. A normalisation that rests works with its statistics as in prediction, as its arrays travel no further.

    Parameters
    ----------
    rule : Rule
        Of a strategy without parts of a site's own.
    model : nn.Module
        What is trained. The next training of all of it asks for all gradients again.
    keys : collection of str
        Names of arrays of its state, at least one of them a weight.

    Raises
    ------
    BadState
        There is no weight among them.
    """

    step: int = 0
    personal: bool = False
    keep: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    pull: float = 0.0

    def __init__(self, rule: Rule, model: nn.Module, keys: frozenset[str]) -> None:
        if not keys & dict(model.named_parameters()).keys():
            raise BadState("train_only names weights of the network", value=sorted(keys)[:3], remedy="name arrays that training can change")
        self.rule, self.model, self.trained, self.tells_loss = rule, model, keys, rule.tells_loss
        self.parts: Mapping[str, slice] = {}
        self.rests = torch.zeros(0, dtype=torch.bool)
        self.still = torch.zeros(0)

    def meet(self, network: nn.Module, spec: ModelSpec, optimiser: Callable[[], Optimiser]) -> None:
        """Let `rule` see the network."""
        self.rule.meet(network, spec, optimiser)

    def lay_out(self, parts: Mapping[str, slice], steps: int) -> None:
        """Remember the places."""
        self.parts = parts
        self.rule.lay_out(parts, steps)

    def start(self, weights: Tensor) -> None:
        """Let rest what rests."""
        self.still = weights.clone()
        self.rests = torch.ones_like(weights, dtype=torch.bool)
        for key in self.trained & self.parts.keys():
            self.rests[self.parts[key]] = False
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.trained)
        for name, module in self.model.named_modules():
            own = {f"{name}.{key}" if name else key for key, _ in module.named_buffers(recurse=False)}
            weighs = {f"{name}.{key}" if name else key for key, _ in module.named_parameters(recurse=False)}
            if own and not (own | weighs) & self.trained:
                module.eval()
        self.rule.start(weights)

    def loss(self, plain: Loss) -> Loss:
        """Return the loss of `rule`."""
        return self.rule.loss(plain)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on as `rule` does; what rests was found by `start`."""
        self.rule.load(state)

    def watching(self, network: nn.Module) -> contextlib.AbstractContextManager[object]:
        """Watch what `rule` watches."""
        return self.rule.watching(network)

    def beside(self, weights: Tensor, slope: Slope, factor: float) -> None:
        """Take the step that `rule` takes."""
        self.rule.beside(weights, slope, factor)

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Correct what is trained."""
        self.rule.step = self.step
        self.rule.correct(weights, gradient)
        gradient.masked_fill_(self.rests, 0.0)

    def moved(self, weights: Tensor, factor: float) -> None:
        """Put back what rests."""
        self.rule.moved(weights, factor)
        torch.where(self.rests, self.still, weights, out=weights)

    def state(self) -> dict[str, Tensor]:
        """Return what `rule` needs."""
        return self.rule.state()

    def finish(self, weights: Tensor, factor: float) -> None:
        """Finish as `rule` does."""
        self.rule.finish(weights, factor)


def resting(rule: Rule, experiment: Experiment, keys: frozenset[str]) -> Rule:
    """Return `rule` with only the arrays `keys` of this process's network for `experiment` trained.

    Raises
    ------
    BadState
        There is no weight among them.
    """
    return Resting(rule, warm_model(experiment).flat.model, keys)
