"""What a network makes of a record just before it classifies: the input of the submodule that its `ModelSpec.representation` names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Seen:
    """What the last forward pass read, (n, ...), and its representation, (n, features); empty before the first one."""

    inputs: Tensor
    representation: Tensor


@contextlib.contextmanager
def watching(network: nn.Module, name: str) -> Iterator[Seen]:
    """Let each forward pass of `network` within the body leave its input and its representation.

    Parameters
    ----------
    network : nn.Module
        Any of the catalogue.
    name : str
        Its `ModelSpec.representation`.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    >>> with watching(network, "1") as seen:
    ...     _ = network(torch.zeros(5, 2))
    >>> seen.inputs.shape, seen.representation.shape
    (torch.Size([5, 2]), torch.Size([5, 3]))
    """
    seen = Seen(torch.zeros(0), torch.zeros(0))

    def begin(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        del module
        seen.inputs = arguments[0]

    def reach(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        del module
        seen.representation = arguments[0]

    hooks = [network.register_forward_pre_hook(begin), network.get_submodule(name).register_forward_pre_hook(reach)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
