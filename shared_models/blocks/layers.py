"""Layers shared by networks. GroupNorm everywhere: BatchNorm mixes patients, so it can neither be private nor averaged safely."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with the largest group count up to 8 that divides `channels` (Wu & He, ECCV 2018).

    Examples
    --------
    >>> group_norm(24).num_groups, group_norm(6).num_groups
    (8, 6)
    """
    groups = next(g for g in range(min(8, channels), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def without_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm by GroupNorm and every in-place activation by a plain one, in place; return the model.

    In-place activations are cleared because per-sample gradients (Opacus) need every intermediate value.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(model, name, group_norm(child.num_features))
        else:
            without_batch_norm(child)
        if getattr(child, "inplace", False):
            child.inplace = False  # type: ignore[assignment]
    return model


class ReferenceLogit(nn.Module):
    """Put the reference class, whose logit is 0, before the logits of the other classes."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return (n, classes) for logits of shape (n, classes - 1)."""
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)


class GatedAttention(nn.Module):
    """Gated attention pooling over a bag of instances (Ilse, Tomczak & Welling, ICML 2018, equation 9).

    ``a_k = softmax_k(w^T (tanh(V h_k) * sigmoid(U h_k)))``, ``z = sum_k a_k h_k``: the order of the instances does not matter.

    Parameters
    ----------
    features : int
        Length of an instance's feature vector.
    hidden : int
        Width of V and U.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.tanh = nn.Linear(features, hidden)
        self.gate = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled vectors (n, features) and the attention weights (n, k) of a bag (n, k, features)."""
        weights = torch.softmax(self.score(torch.tanh(self.tanh(bag)) * torch.sigmoid(self.gate(bag))).squeeze(-1), dim=1)
        return torch.einsum("nk,nkf->nf", weights, bag), weights
