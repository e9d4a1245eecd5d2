"""What a model makes of a record before it names a class: the input of a network's classifier, or the row of a table itself."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from shared_models.catalogue import build, inputs_of, spec_of
from shared_models.core.choices import Choice
from shared_models.core.errors import BadInput
from shared_models.experiment import Experiment

if TYPE_CHECKING:
    from torch import Tensor, nn

PATCH_PX = 31
"""Side of the patch on which the width of a network's representation is found; any will do that the network takes."""


def has_representation(experiment: Experiment) -> bool:
    """Say whether the experiment's model has a representation."""
    spec = spec_of(experiment.model)
    return spec.takes == "table" or spec.representation is not None


def representation_width(experiment: Experiment) -> int:
    """Return the length of the representation of one record, found on an empty one.

    Raises
    ------
    BadInput
        The model has no representation.
    """
    spec = spec_of(experiment.model)
    if spec.representation is None:
        if spec.takes == "table":
            return inputs_of(experiment)
        raise BadInput("a model must have a representation", value=experiment.model.name, remedy="choose a network, or a model of tables")
    inputs = experiment.inputs
    shapes = {"slices": (2, inputs.size, inputs.size), "volume": (1, *inputs.shape_zyx), "patch": (1, PATCH_PX, PATCH_PX)}
    shape = shapes.get(spec.takes, (inputs_of(experiment),))
    return _width(experiment.model.model_dump_json(), inputs_of(experiment), experiment.data.outputs, shape)


def represent(network: nn.Module, module: str, batch: Tensor) -> Tensor:
    """Return what enters the named module of a network for a batch of records, shape (n, width).

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 3))
    >>> represent(network, "1", torch.tensor([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """
    held: list[Tensor] = []
    hook = network.get_submodule(module).register_forward_pre_hook(lambda module, given: held.append(given[0]))
    try:
        network(batch)
    finally:
        hook.remove()
    return held[-1].flatten(1)


@functools.lru_cache(maxsize=8)
def _width(choice: str, inputs: int, outputs: int, shape: tuple[int, ...]) -> int:
    import torch

    model = Choice.model_validate_json(choice)
    network, spec = build(model, inputs=inputs, outputs=outputs).eval(), spec_of(model)
    with torch.inference_mode():
        return int(represent(network, str(spec.representation), torch.from_numpy(np.zeros((1, *shape), np.float32))).shape[1])
