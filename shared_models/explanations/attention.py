"""Attention: how a network with attention spreads it over slices (attention pooling) and over the tokens of a slice or volume (rollout)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.explanations.subject import ExplanationSpec, Subject

if TYPE_CHECKING:
    from torch import nn


def attention(subject: Subject, label: int) -> np.ndarray:
    """Return the attention that each place of a record gets, whatever the class.

    Attention pooling gives one weight a slice. A transformer gives one a token: the attention of all layers multiplied together, half of each
    layer being the residual connection (rollout). A network with both gives the product.

    Parameters
    ----------
    subject : Subject
        A record and its network.
    label : int
        Not used: attention does not depend on the class that is asked for.

    Returns
    -------
    ndarray of float64
        Shares with sum 1, shape `subject.shape`.

    Raises
    ------
    BadInput
        The network has no attention, or one whose tokens do not lie on a grid.

    Source: Ilse, Tomczak & Welling, ICML 2018, equation 9; rollout: Abnar & Zuidema, Quantifying attention flow in transformers, ACL 2020.
    """
    import torch

    del label
    network = subject.own_network()
    image = torch.from_numpy(np.ascontiguousarray(subject.record[None], np.float32))
    with torch.no_grad(), kept_attention(network) as (bags, layers):
        network(image)
    if not bags and not layers:
        raise BadInput("an explanation by attention needs a network with attention", remedy="choose grad_cam")
    heat = np.ones(subject.shape)
    if layers:
        flow = rollout([layer.double().mean(1).numpy() for layer in layers])
        heat = heat * np.stack([on_grid(one, subject.shape[1:] if subject.takes == "slices" else subject.shape) for one in flow])
        heat = heat.reshape(subject.shape) if heat.size == math.prod(subject.shape) else heat[0]
    if bags and subject.takes == "slices":
        weights = bags[-1][0].double().numpy()
        if len(weights) == len(heat):
            heat = heat * weights[:, None, None]
    return heat / heat.sum()


def rollout(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return how much of each token reaches the output, from the attention of each layer.

    Parameters
    ----------
    layers : sequence of ndarray
        First layer first, mean over heads, shape (n, tokens, tokens); rows sum to 1.

    Returns
    -------
    ndarray
        Shape (n, tokens, tokens): row i is what token i holds of every input token.

    Examples
    --------
    >>> even = np.full((1, 2, 2), 0.5)
    >>> rollout([even])[0].tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    tokens = layers[0].shape[-1]
    if any(layer.shape != layers[0].shape for layer in layers):
        raise BadInput("rollout needs the same tokens in every layer", value=sorted({layer.shape[-1] for layer in layers}), remedy="choose grad_cam")
    flow = np.broadcast_to(np.eye(tokens), layers[0].shape)
    for layer in layers:
        mixed = 0.5 * layer + 0.5 * np.eye(tokens)
        flow = (mixed / mixed.sum(-1, keepdims=True)) @ flow
    return np.asarray(flow)


def on_grid(flow: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return one record's flow (tokens, tokens) enlarged to `shape`: the row of the class token, or the mean of all rows where there is none.

    Raises
    ------
    BadInput
        The tokens do not lie on a grid over the image.
    """
    from scipy.ndimage import zoom

    tokens = len(flow)
    for count, shares in ((tokens - 1, flow[0, 1:]), (tokens, flow.mean(0))):
        side = (count / math.prod(shape)) ** (1 / len(shape))  # tokens a pixel along each axis
        grid = tuple(max(1, round(length * side)) for length in shape)
        if count > 0 and math.prod(grid) == count:
            large = zoom(shares.reshape(grid), [a / b for a, b in zip(shape, grid, strict=True)], order=1, grid_mode=True, mode="nearest")
            return np.maximum(np.asarray(large), 0)
    raise BadInput("the tokens of a transformer must lie on a grid over the image", value=tokens, remedy="choose grad_cam")


@contextmanager
def kept_attention(network: nn.Module) -> Iterator[tuple[list[Any], list[Any]]]:
    """Keep the weights of attention pooling and the matrices of self-attention of one pass, in the order in which they are made.

    A matrix is what a module gives beside its output, (n, heads, tokens, tokens); PyTorch's own attention must be asked for it.
    """
    import torch
    from torch import nn

    from shared_models.blocks.layers import GatedAttention

    bags: list[Any] = []
    layers: list[Any] = []
    hooks = []

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        matrix: Any = out[1] if isinstance(out, tuple) and len(out) == 2 else None
        if not torch.is_tensor(matrix) or matrix.dim() != 4 or matrix.shape[-1] != matrix.shape[-2]:
            return
        if not any(matrix is one for one in layers):  # a layer may hand on what its attention gave
            layers.append(matrix)

    def asked(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return given, {**named, "need_weights": True, "average_attn_weights": False}

    saving = [module for module in network.modules() if hasattr(module, "save_attn") and hasattr(module, "att_mat")]
    before = [bool(module.save_attn) for module in saving]
    try:
        for module in network.modules():
            if isinstance(module, GatedAttention):
                hooks.append(module.register_forward_hook(lambda module, given, out: bags.append(out[1])))
                continue
            if isinstance(module, nn.MultiheadAttention):
                hooks.append(module.register_forward_pre_hook(asked, with_kwargs=True))
            hooks.append(module.register_forward_hook(keep))
        for module in saving:  # MONAI's blocks keep their own
            module.save_attn = True  # type: ignore[assignment]
            hooks.append(module.register_forward_hook(lambda module, given, out: layers.append(module.att_mat)))
        yield bags, layers
    finally:
        for hook in hooks:
            hook.remove()
        for module, was in zip(saving, before, strict=True):
            module.save_attn = was  # type: ignore[assignment]


def _attends(subject: Subject) -> bool:
    if subject.network is None:
        return False
    from torch import nn

    from shared_models.blocks.layers import GatedAttention

    return any(isinstance(module, GatedAttention | nn.MultiheadAttention) or hasattr(module, "save_attn") for module in subject.network.modules())


SPEC = ExplanationSpec(
    attention,
    frozenset({"slices", "volume", "patch"}),
    _attends,
    source="Ilse et al., ICML 2018; rollout: Abnar & Zuidema, Quantifying attention flow in transformers, ACL 2020",
)
