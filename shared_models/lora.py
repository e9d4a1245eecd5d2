"""``[model.lora]``: train, and send, low-rank additions to the weights of named layers in place of the weights.

[model.lora]
rank = 4
layers = ["encoder.layers.*"]      patterns of layers, as of a shell: linear ones and convolutions
also = ["head.*"]                  patterns of arrays that are trained whole beside them

A layer's weight becomes ``W + B A`` with A (rank, inputs) and B (outputs, rank), B zero at the start (Hu et al., LoRA, ICLR 2022, whose factor
alpha / rank is 1 here: the learning rate does its work). W rests: it neither changes nor travels, once a site has it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, ValidationError

from shared_models.core.arrays import State
from shared_models.core.choices import Choice, Section, faults_of
from shared_models.core.errors import BadChoice

if TYPE_CHECKING:
    from torch import nn

DOWN, UP = ".lora_down", ".lora_up"
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class Lora(Section):
    """What is adapted, and how richly."""

    rank: Annotated[int, Field(ge=1, le=512)] = 4
    layers: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    also: tuple[Pattern, ...] = ("head.*",)

    @property
    def trained(self) -> tuple[str, ...]:
        """Patterns of the arrays that are trained and travel."""
        return (f"*{DOWN}", f"*{UP}", *self.also)


def lora_of(choice: Choice) -> Lora | None:
    """Return a model's ``lora``, None where it has none.

    Raises
    ------
    BadChoice
        ``[model.lora]`` with faults.

    Examples
    --------
    >>> lora_of(Choice(name="vit", lora={"layers": ["encoder.layers.*"]})).trained
    ('*.lora_down', '*.lora_up', 'head.*')
    """
    if "lora" not in choice.knobs:
        return None
    try:
        return Lora.model_validate(choice.knobs["lora"])
    except ValidationError as error:
        raise BadChoice("; ".join(faults_of(error, "model.lora"))) from None


def without_lora(choice: Choice) -> Choice:
    """Return a model's choice without its ``lora``.

    Examples
    --------
    >>> without_lora(Choice(name="vit", patch=8, lora={"layers": ["*"]}))
    Choice(name='vit', patch=8)
    """
    return Choice.model_validate({"name": choice.name, **{name: value for name, value in choice.knobs.items() if name != "lora"}})


def adapted(network: nn.Module, lora: Lora) -> nn.Module:
    """Put the low-rank arrays beside the weights of the named layers of `network`, in place, and return it; torch's generator draws A.

    Raises
    ------
    BadChoice
        A pattern that names no linear layer and no convolution.
    """
    from shared_models.blocks.low_rank import KINDS, low_rank

    places = [(name, layer) for name, layer in network.named_modules() if type(layer) in KINDS]
    for pattern in lora.layers:
        if not any(fnmatchcase(name, pattern) for name, _ in places):
            remedy = f"it has {', '.join(name for name, _ in places[-4:])} ..."
            raise BadChoice("model.lora.layers name linear layers and convolutions of the network", value=pattern, remedy=remedy)
    for name, layer in places:
        if any(fnmatchcase(name, pattern) for pattern in lora.layers):
            above, _, last = name.rpartition(".")
            setattr(network.get_submodule(above), last, low_rank(layer, lora.rank))
    return network


def merged(state: State) -> State:
    """Return a state in which each ``W``, ``A`` and ``B`` of an adapted layer became ``W + B A``, under the layer's plain names.

    Examples
    --------
    >>> state = {"a.weight": np.zeros((2, 3)), "a.lora_down": np.ones((1, 3)), "a.lora_up": np.array([[1.0], [2.0]])}
    >>> merged(state)["a.weight"].tolist(), len(merged(state))
    ([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], 1)
    """
    layers = [key.removesuffix(UP) for key in state if key.endswith(UP) and key.removesuffix(UP) + DOWN in state]
    found = {key: value for key, value in state.items() if key.removesuffix(UP).removesuffix(DOWN) not in layers}
    for layer in layers:
        weight = state[f"{layer}.weight"]
        change = state[layer + UP].astype(np.float64) @ state[layer + DOWN].astype(np.float64)
        found[f"{layer}.weight"] = (weight + change.reshape(weight.shape)).astype(weight.dtype)
    return found
