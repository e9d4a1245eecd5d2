"""Networks that start from the weights of others, as ``[model.weights]`` names them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice, BadInput, BadState
from shared_models.core.files import sha256, unpack_state
from shared_models.lora import merged
from shared_models.weights import Weights, WeightsFile

if TYPE_CHECKING:
    from torch import nn

COUNTER = "num_batches_tracked"
"""A number that BatchNorm keeps, in files and in networks, and nothing here needs."""

FOLDER = "FEDILD_WEIGHTS"
"""Environment variable with the folder of weights: the experiment, whose digest sites approve, names no folder of a machine."""


def normalise(network: nn.Module, weights: Weights) -> nn.Module:
    """Set the network's input scale to that of the weights, in place, and return it; needs no file, so that a site can do it.

    Raises
    ------
    BadChoice
        The network has no input scale to set.
    """
    if weights.normalisation == "network":
        return network
    from shared_models.blocks.encoders import InputScale

    scales = [layer for layer in network.modules() if isinstance(layer, InputScale)]
    if not scales:
        rule = "this network scales its inputs itself and takes no normalisation from weights"
        raise BadChoice(rule, remedy='set model.weights.normalisation = "network", or choose a network of the transfer zoo')
    for scale in scales:
        count = len(scale.mean)
        scale.set(weights.normalisation.mean[:count], weights.normalisation.std[:count])
    return network


def load_weights(network: nn.Module, weights: WeightsFile) -> None:
    """Load a file of weights into `network`.

    Raises
    ------
    BadInput
        E_WEIGHTS: no such file, or another hash.
    BadState
        E_WEIGHTS: not safetensors; keys that are missing or left over, each named; another shape; numbers that are not finite.
    """
    import torch

    own = network.state_dict()
    found = _matched(_read(weights), own, weights)
    with torch.no_grad():
        for key, value in found.items():
            own[key].copy_(torch.from_numpy(_shaped(key, value, tuple(own[key].shape))))


def _read(weights: WeightsFile) -> State:
    try:
        data = Path(os.environ.get(FOLDER, "."), weights.path).read_bytes()
    except OSError as error:
        remedy = f"get the file from its publisher under its licence, as safetensors, and let {FOLDER} name its folder"
        raise BadInput(f"the weights file must be readable: {weights.path}", value=type(error).__name__, remedy=remedy, code="E_WEIGHTS") from None
    if (digest := sha256(data)) != weights.sha256:
        remedy = "a changed file is another model: compare with its publisher, then correct model.weights.sha256"
        raise BadInput("the weights file must have the hash that the experiment names", value=digest, remedy=remedy, code="E_WEIGHTS")
    try:
        return merged(unpack_state(data))  # a run with [model.lora] is read as what it amounts to
    except BadState as error:
        raise BadState(error.rule, value=error.value, remedy="convert the file to safetensors where you trust it", code="E_WEIGHTS") from None


def _matched(file: State, own: Iterable[str], weights: WeightsFile) -> State:
    """Return the file's arrays under the network's names, after every key on both sides found its place."""
    for what, beginnings, keys in (("skip", weights.skip, list(file)), ("fresh", weights.fresh, list(own)), ("rename", weights.rename, list(file))):
        if idle := [beginning for beginning in beginnings if not any(key.startswith(beginning) for key in keys)]:
            raise BadState(f"model.weights.{what} names what is there", value=idle, remedy="correct its spelling", code="E_WEIGHTS")
    found = {}
    for key, value in file.items():
        if not key.startswith(weights.skip) and not key.endswith(COUNTER):
            beginning = max((b for b in weights.rename if key.startswith(b)), key=len, default=None)
            found[key if beginning is None else weights.rename[beginning] + key[len(beginning) :]] = value
    wanted = {key for key in own if not key.startswith(weights.fresh) and not key.endswith(COUNTER)}
    if missing := sorted(wanted - found.keys()):
        rule, remedy = f"{len(missing)} arrays of the network are missing in the weights file", "correct rename, or name them in fresh"
        raise BadState(rule, value=missing[:5], remedy=remedy, code="E_WEIGHTS")
    if extra := sorted(found.keys() - wanted):
        rule, remedy = (
            f"{len(extra)} arrays of the weights file have no place in the network",
            "correct rename or the knobs, or name them in skip",
        )
        raise BadState(rule, value=extra[:5], remedy=remedy, code="E_WEIGHTS")
    return found


def _shaped(key: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array in the network's shape: as it is, or a first convolution's three colours summed into the one of a grey slice."""
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        raise BadState(f"{key!r} must hold finite real numbers", value=str(value.dtype), code="E_WEIGHTS")
    if value.ndim == 4 and shape[1:2] == (1,) and value.shape == (shape[0], 3, *shape[2:]):
        return value.astype(np.float32).sum(1, keepdims=True)
    if value.shape != shape:
        raise BadState(f"{key!r} must have shape {shape}", value=value.shape, remedy="set the model's knobs to those of the file", code="E_WEIGHTS")
    return value.astype(np.float32)
