"""Where a training loop stands, as arrays: network, optimiser, rule and random generators, which both loops keep alike in their step checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from client.training.flat import FlatModel
from client.training.optimisers import Optimiser
from client.training.rule import Rule
from shared_models.core.arrays import State


def stand_of(flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule) -> State:
    """Return everything that the next step of any loop depends on; a loop adds what is its own.

    Parameters
    ----------
    flat : FlatModel
        The network.
    optimiser : Optimiser
        Its momenta.
    generator : torch.Generator
        The loop's own; the global one, from which dropout draws, is kept beside it.
    rule : Rule
        The site's half of the strategy.
    """
    stand = {f"model/{key}": value for key, value in flat.state().items()}
    stand |= {f"optimiser/{key}": value.cpu().numpy() for key, value in optimiser.state().items()}
    stand |= {f"rule/{key}": value.detach().cpu().numpy() for key, value in rule.state().items()}
    stand |= {"random/own": generator.get_state().numpy(), "random/global": torch.get_rng_state().numpy()}
    if flat.weights.is_cuda:
        stand["random/cuda"] = torch.cuda.get_rng_state(flat.weights.device).numpy()
    return stand


def put_back(stand: Mapping[str, np.ndarray], flat: FlatModel, optimiser: Optimiser, generator: torch.Generator, rule: Rule) -> None:
    """Let network, optimiser, generators and rule go on from where `stand_of` found them."""
    flat.load(part_of(stand, "model"))
    optimiser.load({key: torch.from_numpy(value).to(flat.weights.device) for key, value in part_of(stand, "optimiser").items()})
    if own := part_of(stand, "rule"):
        rule.load({key: torch.from_numpy(value).to(flat.weights.device) for key, value in own.items()})
    random = part_of(stand, "random")
    generator.set_state(torch.from_numpy(random["own"]))
    torch.set_rng_state(torch.from_numpy(random["global"]))
    if "cuda" in random and flat.weights.is_cuda:
        torch.cuda.set_rng_state(torch.from_numpy(random["cuda"]), flat.weights.device)


def part_of(stand: Mapping[str, np.ndarray], part: str) -> State:
    """Return the arrays under ``part/``.

    Examples
    --------
    >>> part_of({"model/w": np.ones(1), "order": np.zeros(1)}, "model")
    {'w': array([1.])}
    """
    return {name.partition("/")[2]: value for name, value in stand.items() if name.startswith(f"{part}/")}
