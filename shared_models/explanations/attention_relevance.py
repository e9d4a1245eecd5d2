"""Attention relevance: which tokens of a transformer raise the score of a class, each layer's attention weighed by its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.explanations.attention import kept_attention, on_grid
from shared_models.explanations.subject import ExplanationSpec, Subject, score_of

if TYPE_CHECKING:
    from torch import Tensor


def attention_relevance(subject: Subject, label: int) -> np.ndarray:
    """Return how much each place raises the score of a class by way of self-attention.

    Unlike rollout it depends on the class and leaves out attention that speaks against it. Slices of one bag can be compared with one another: the
    weight that the bag gives a slice is in its gradients.

    Parameters
    ----------
    subject : Subject
        A record and its network.
    label : int
        Class whose score is explained.

    Returns
    -------
    ndarray of float64
        Not negative, shape `subject.shape`.

    Raises
    ------
    BadInput
        The network has no self-attention whose matrices reach the score, or one whose tokens do not lie on a grid.

    Source: Chefer, Gur & Wolf, Generic attention-model explainability, ICCV 2021, equations 5 and 6.
    """
    import torch

    network = subject.own_network()
    image = torch.from_numpy(np.ascontiguousarray(subject.record[None], np.float32)).requires_grad_()
    with torch.enable_grad(), kept_attention(network) as (_, layers):
        score = score_of(network(image), label, each=subject.each)[0]
        gradients = torch.autograd.grad(score, layers, allow_unused=True) if layers else ()
    found = [(layer.detach(), gradient) for layer, gradient in zip(layers, gradients, strict=True) if gradient is not None]
    if not found:
        raise BadInput("attention relevance needs a transformer whose attention reaches the score", remedy="choose grad_cam or attention")
    flow = relevance([layer.double() for layer, _ in found], [gradient.double() for _, gradient in found])
    places = subject.shape[1:] if subject.takes == "slices" else subject.shape
    heat = np.stack([on_grid(one, places) for one in flow.numpy()])
    return heat.reshape(subject.shape)


def relevance(layers: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return the relevance of every token for every other, shape (n, tokens, tokens), less what a token is to itself at the start.

    Parameters
    ----------
    layers, gradients : list of Tensor
        Attention of each layer, first layer first, and the gradient of the score with respect to it, shape (n, heads, tokens, tokens).

    Raises
    ------
    BadInput
        The layers have other tokens.

    Examples
    --------
    >>> import torch
    >>> even, up = torch.full((1, 1, 2, 2), 0.5), torch.tensor([[[[0.0, 2.0], [-2.0, 0.0]]]])
    >>> relevance([even], [up])[0].tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    import torch

    tokens = layers[0].shape[-1]
    if any(layer.shape != layers[0].shape for layer in layers):
        rule = "attention relevance needs the same tokens in every layer"
        raise BadInput(rule, value=sorted({layer.shape[-1] for layer in layers}), remedy="choose grad_cam")
    own = torch.eye(tokens, dtype=layers[0].dtype)
    flow = own.expand(len(layers[0]), -1, -1)
    for layer, gradient in zip(layers, gradients, strict=True):
        flow = flow + (gradient * layer).clamp(min=0).mean(1) @ flow
    return flow - own


def _has_self_attention(subject: Subject) -> bool:
    if subject.network is None:
        return False
    from shared_models.blocks.transformer import SelfAttention

    return any(isinstance(module, SelfAttention) for module in subject.network.modules())


SPEC = ExplanationSpec(
    attention_relevance,
    frozenset({"slices", "volume", "patch"}),
    _has_self_attention,
    source="Chefer, Gur & Wolf, Generic attention-model explainability for interpreting bi-modal and encoder-decoder transformers, ICCV 2021",
)
