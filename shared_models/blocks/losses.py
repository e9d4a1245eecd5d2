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
