"""Losses per sample: the trainer weights and averages them, so that differential privacy and case weights come for free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each sample.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
    labels : Tensor of int64, shape (n,)
    label_smoothing : float
        Share of the target spread evenly over all classes (Szegedy et al., CVPR 2016, section 7).

    Returns
    -------
    Tensor, shape (n,)
        In nats.

    Examples
    --------
    >>> import torch
    >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2])).item()  # ln 4
    1.3862943649291992
    """
    from torch.nn import functional

    return functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def binary_cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean binary cross-entropy over the classes of each sample: one independent question a class, for several findings at once.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
    labels : Tensor
        Zeros and ones of shape (n, classes), or int64 of shape (n,) where one class holds.
    label_smoothing : float
        Moves each target that far towards a half.

    Returns
    -------
    Tensor, shape (n,)
        In nats.

    Examples
    --------
    >>> import torch
    >>> binary_cross_entropy(torch.zeros(1, 4), torch.tensor([[1, 0, 1, 0]])).item()  # ln 2
    0.6931471824645996
    """
    from torch.nn import functional

    wanted = functional.one_hot(labels, logits.shape[1]) if labels.ndim == 1 else labels
    targets = wanted.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
