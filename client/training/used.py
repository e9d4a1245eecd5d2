"""Which arrays of a network training can change: what no loss reaches must come back as it came, or it could carry anything."""

from __future__ import annotations

import functools

import torch

from shared_models.blocks.adversarial import Game
from shared_models.blocks.mean_teacher import SelfTaught
from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.arrays import State
from shared_models.core.choices import Choice
from shared_models.core.errors import Refused
from shared_models.experiment import Experiment


def check_unused(experiment: Experiment, state: State, received: State, shape: tuple[int, ...]) -> None:
    """Refuse a state in which an array changed that no training can change.

    Parameters
    ----------
    experiment : Experiment
        Its ``[model]``.
    state, received : State
        After and before training.
    shape : tuple of int
        Of one record: a pass of random numbers through the network shows what it uses.

    Raises
    ------
    Refused
        E_UNUSED.
    """
    used = _used(experiment.model.model_dump_json(), inputs_of(experiment), experiment.data.outputs, shape)
    unused = [key for key in received if key in state and key not in used]
    if any(state[key].tobytes() != received[key].tobytes() for key in unused):
        raise Refused("an array that the model does not use comes back as it came", code="E_UNUSED")


@functools.lru_cache(maxsize=16)
def _used(choice: str, inputs: int, outputs: int, shape: tuple[int, ...]) -> frozenset[str]:
    """Return parameters that one backward pass reaches and buffers that one forward pass changes."""
    chosen = Choice.model_validate_json(choice)
    spec = spec_of(chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(chosen, inputs=inputs, outputs=outputs).train()
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(torch.randn_like(weights), alpha=1e-3)  # a mean of weights moves once they have moved
        before = {key: value.clone() for key, value in model.named_buffers()}
        batch = torch.rand(2, *shape)
        maps, labels = torch.zeros(2, *shape, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)
        aims = maps if spec.task == "segmentation" else labels
        if isinstance(model, Game):
            output = torch.stack([model.loss_of(player, batch, maps if player in model.mapped else labels) for player in model.players])
        elif isinstance(model, SelfTaught):
            output = model.losses(batch, aims)
        elif spec.objective is not None:
            output = spec.objective(model(batch), batch, aims)
        else:
            output = model(batch) if spec.loss is None else spec.loss(model(batch), aims)
        output.sum().backward()
    trained = {name for name, value in model.named_parameters(remove_duplicate=False) if value.grad is not None}
    return frozenset(trained | {key for key, value in model.named_buffers() if not torch.equal(value, before[key])})
