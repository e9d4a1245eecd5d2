"""MOON's rule: representations are drawn towards those of the global model and away from those of the site's own last one."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from client.training.memory import Memory
from client.training.optimisers import Optimiser
from client.training.per_unit import Loss
from client.training.rule import Plain
from client.training.stand import part_of
from shared_models.blocks.representation import Seen, watching
from shared_models.blocks.spec import ModelSpec
from shared_models.core.errors import BadChoice
from shared_models.core.state import same_layout

PREVIOUS = "previous"
"""The part of the site's memory that holds the model as the site had trained it in its last round."""


class Moon(Plain):
    """Add `mu` times the model-contrastive loss to the loss of each record (Li, He & Song, CVPR 2021, equations 3 and 4).

    ``-log(e^(cos(z, z_global) / tau) / (e^(cos(z, z_global) / tau) + e^(cos(z, z_previous) / tau)))`` of the representations z that the
    network in training, the received one and the one that this site trained last make of a record; the latter two rest, without dropout. A
    site's first round has no last model and nothing to add. The representation is what the network's classifier reads: the networks here
    have no projection head of their own, as in the paper's ablation without one.
    """

    def __init__(self, mu: float, tau: float, memory: Memory | None) -> None:
        self.mu, self.tau, self.memory = mu, tau, memory
        self.network: nn.Module = nn.Identity()
        self.at = ""
        self.others: tuple[nn.Module, ...] = ()
        self.seen = Seen(torch.zeros(0), torch.zeros(0))

    def meet(self, network: nn.Module, spec: ModelSpec, optimiser: Callable[[], Optimiser]) -> None:
        """Keep the global model and the site's last one beside the network.

        Raises
        ------
        BadChoice
            The network has no representation.
        """
        del optimiser
        if spec.representation is None:
            raise BadChoice("contrasting representations needs a network that has one", remedy="choose another model, or another strategy")
        self.network, self.at = network, spec.representation
        previous = {} if self.memory is None else part_of(self.memory.before(), PREVIOUS)
        if previous:
            same_layout(previous, {key: value.detach().cpu().numpy() for key, value in network.state_dict().items()})
            self.others = (_resting(network), _resting(network))
            self.others[1].load_state_dict({key: torch.from_numpy(value) for key, value in previous.items()})

    @contextlib.contextmanager
    def _look(self, network: nn.Module) -> Iterator[None]:
        with watching(network, self.at) as self.seen:
            yield

    def watching(self, network: nn.Module) -> contextlib.AbstractContextManager[object]:
        """Watch for representations, once there is something to compare them with."""
        return self._look(network) if self.others else contextlib.nullcontext()

    def loss(self, plain: Loss) -> Loss:
        """Return the sum of both losses."""
        if not self.others:
            return plain
        return lambda logits, labels: plain(logits, labels) + self.mu * self._contrast()

    def _contrast(self) -> Tensor:
        own, (globally, before) = self.seen, self.others
        near, far = (cosine_similarity(own.representation.float(), _representation(other, self.at, own.inputs)) for other in (globally, before))
        return softplus((far - near) / self.tau)  # the same as equation 3, and finite whatever tau is

    def finish(self, weights: Tensor, factor: float) -> None:
        """Keep the site's model for its next round."""
        del weights, factor
        if self.memory is not None:
            self.memory.keep({f"{PREVIOUS}/{key}": value.detach().cpu().numpy() for key, value in self.network.state_dict().items()})


def _resting(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _representation(network: nn.Module, at: str, inputs: Tensor) -> Tensor:
    with watching(network, at) as seen:
        network(inputs)
    return seen.representation.float()
