"""Personal models: what a site keeps for itself beside the global model. It lies in the site's memory and never travels.

Parts of the network may be the site's own (FedBN, FedPer, FedRep): they take the place of the received ones before training and judging,
and the received ones go back to the server in their place, untouched. Or a whole second model is (Ditto), or its mixture with the global
one (APFL).

Under the privacy of patients, parts are trained under the noise with the rest of the network: the shared parts learn through them. A second
model is trained without: nothing of it reaches what leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from client.training.fitter import Fitted
from client.training.gradient import network_key, network_on_cpu
from client.training.memory import Memory
from client.training.personal_models import PERSONAL, own_model
from client.training.rule import Plain, Rule
from shared_models.blocks.spec import NETWORK_FITS
from shared_models.catalogue import spec_of
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.experiment import Experiment

NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class Mixed:
    """A second model is the site's own, and what is used is a mixture; its rule trains and keeps it beside the global one."""

    memory: Memory

    def seen(self, received: State) -> State:
        """Return the model that this site uses; the received one before the first round."""
        return own_model(self.memory.before(), received) or received

    def begin(self, received: State) -> State:
        """Return what is trained: the received model, as ever."""
        return received

    def end(self, fitted: Fitted, received: State, again: Callable[..., Fitted]) -> Fitted:
        """Return what may travel: all that was trained."""
        return fitted


@dataclass(frozen=True)
class Parts(Mixed):
    """Arrays `keys` of the network are the site's own."""

    keys: frozenset[str]

    def begin(self, received: State) -> State:
        """Return the received model with the site's own parts."""
        return self.seen(received)

    def end(self, fitted: Fitted, received: State, again: Callable[..., Fitted]) -> Fitted:
        """Keep the site's parts and return what may travel, with the received parts in their place."""
        self.memory.keep({f"{PERSONAL}/{key}": fitted.state[key] for key in sorted(self.keys)})
        return replace(fitted, state={key: received[key] if key in self.keys else value for key, value in fitted.state.items()})


@dataclass(frozen=True)
class Whole(Mixed):
    """A second model, pulled towards the global one with strength `pull`, is the site's own."""

    pull: float

    def end(self, fitted: Fitted, received: State, again: Callable[..., Fitted]) -> Fitted:
        """Train the site's own model with `again`, keep it, and return what was trained of the global one."""
        own = again(self.seen(received), Anchored(self.pull, received)).state
        self.memory.keep({f"{PERSONAL}/{key}": value for key, value in own.items()})
        return fitted


class Anchored(Plain):
    """``g += pull (v - w_global)`` for a model v that did not start at the global one (Li et al., ICML 2021, algorithm 1)."""

    def __init__(self, pull: float, received: State) -> None:
        self.strength, self.received = pull, received
        self.parts: dict[str, slice] = {}
        self.anchor = torch.zeros(0)

    def lay_out(self, parts: dict[str, slice], steps: int) -> None:
        """Remember the places."""
        self.parts = dict(parts)

    def start(self, weights: Tensor) -> None:
        """Lay the global weights out as the network's own lie."""
        self.anchor = torch.empty_like(weights)
        for key, part in self.parts.items():
            self.anchor[part] = torch.from_numpy(self.received[key].copy()).to(weights).reshape(-1)

    def correct(self, weights: Tensor, gradient: Tensor) -> None:
        """Add the pull."""
        gradient.add_(weights - self.anchor, alpha=self.strength)


def personal_of(rule: Rule, experiment: Experiment, memory: Memory) -> Mixed | None:
    """Return what is the site's own under `rule`, None when nothing is; the rule is told the names of the site's own parts.

    Raises
    ------
    BadChoice
        As `kept_keys`.
    """
    if spec_of(experiment.model).fit not in NETWORK_FITS or not rule.personal:
        return None
    if rule.pull:
        return Whole(memory, rule.pull)
    if not rule.keep:
        return Mixed(memory)
    rule.keys = kept_keys(network_on_cpu(*network_key(experiment)), rule.keep)
    return Parts(memory, rule.keys)


def kept_keys(network: nn.Module, keep: tuple[str, ...]) -> frozenset[str]:
    """Return the names of the arrays that `keep` means: ``normalisation``, ``head`` (the last linear layer) or patterns of names.

    Raises
    ------
    BadChoice
        Nothing is meant, or everything.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    >>> sorted(kept_keys(network, ("head",))), sorted(kept_keys(network, ("normalisation", "0.b*")))
    (['2.bias', '2.weight'], ['0.bias', '1.bias', '1.weight'])
    """
    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    norms = [name for name, module in network.named_modules() if isinstance(module, NORMALISATIONS)]
    names = {"head": heads, "normalisation": norms}
    everything, found = list(network.state_dict()), set[str]()
    for word in keep:
        owners = names.get(word)
        found |= {key for key in everything if (fnmatchcase(key, word) if owners is None else key.rpartition(".")[0] in owners)}
    if not found or len(found) == len(everything):
        raise BadChoice(
            "a personal part is some of the network, not nothing and not all of it",
            value=f"{list(keep)}: {len(found)} of {len(everything)} arrays",
            remedy=f"name other parts; the network has {', '.join(everything[:3])} ...",
        )
    return frozenset(found)
