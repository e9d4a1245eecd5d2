"""A network as one flat vector: parameters and gradients become views of two contiguous buffers.

An optimiser step, a proximal term or a control variate is then one vector operation instead of one per tensor, and a state is copied in
and out without building hundreds of small arrays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared_models.core.arrays import State
from shared_models.core.errors import BadState


class FlatModel:
    """Tie `model`'s parameters and gradients to the buffers `weights` and `gradient`; `parts` says where each parameter lies.

    Parameters
    ----------
    model : nn.Module
        Changed in place: its parameters become views. All of them must have one floating-point type.

    Examples
    --------
    >>> flat = FlatModel(nn.Linear(2, 1))
    >>> _ = flat.weights.fill_(1.0)
    >>> flat.model(torch.ones(1, 2)).item()
    3.0
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        parameters = list(model.parameters())
        types = {p.dtype for p in parameters}
        if len(types) != 1:
            raise BadState("all parameters of a network must have one type", value=sorted(map(str, types)))
        total = sum(p.numel() for p in parameters)
        device = parameters[0].device
        self.weights = torch.empty(total, dtype=parameters[0].dtype, device=device)
        self.gradient = torch.zeros_like(self.weights)
        self.parts: dict[str, slice] = {}
        at = 0
        for name, parameter in model.named_parameters():
            part = self.parts[name] = slice(at, at + parameter.numel())
            self.weights[part] = parameter.detach().reshape(-1)
            parameter.data = self.weights[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
            at = part.stop

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy a state into the network.

        Raises
        ------
        BadState
            Other keys or shapes.
        """
        own = self.model.state_dict()
        if own.keys() != state.keys():
            raise BadState("a state has the keys of its network", value=sorted(own.keys() ^ state.keys())[:3])
        with torch.no_grad():
            for key, target in own.items():
                if target.shape != state[key].shape:
                    raise BadState(f"{key!r} must have shape {tuple(target.shape)}", value=state[key].shape)
                target.copy_(torch.from_numpy(np.asarray(state[key])))

    def state(self) -> State:
        """Return a copy of the network's state as numpy arrays."""
        return {key: value.detach().cpu().numpy().copy() for key, value in self.model.state_dict().items()}

    def backward(self, loss: Tensor, *, add: bool = False) -> None:
        """Fill `gradient` with the gradient of `loss`, or `add` it to what is there."""
        if not add:
            self.gradient.zero_()
        loss.backward()
