"""Classes of unequal size: how much the records of each count, and how much those that are told rightly already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

OVERLAP = 0.99
"""Of the effective number ``(1 - b^n) / (1 - b)``: it levels off at 100 patients, the size of a site's classes."""


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """Return the factor on each class's losses, float32 (classes,); over the records at hand their mean is 1, and absent classes have 0.

    Parameters
    ----------
    labels : ndarray of int
        Of the site's training records.
    classes : int
        Of the experiment.
    how : str
        ``balanced``: the inverse of a class's count; ``effective``: of its effective number; anything else: 1 each.

    Examples
    --------
    >>> labels = np.repeat([0, 1], [90, 10])
    >>> [[round(float(weight), 2) for weight in class_weights(labels, 3, how)] for how in ("balanced", "effective")]
    [[0.56, 5.0, 0.0], [0.66, 4.09, 0.0]]

    Source: Cui, Jia, Lin, Song & Belongie, Class-balanced loss based on effective number of samples, CVPR 2019, equation 2.
    """
    if how not in ("balanced", "effective"):
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    sizes = counts if how == "balanced" else (1 - OVERLAP**counts) / (1 - OVERLAP)
    inverse = np.where(counts > 0, 1 / np.where(counts > 0, sizes, 1), 0.0)
    return (inverse * len(labels) / max(float((inverse * counts).sum()), 1e-300)).astype(np.float32)


def focused(losses: Tensor, power: float | None) -> Tensor:
    """Return cross-entropies (n,) times ``(1 - p)^power`` with ``p = exp(-loss)``, the probability of the true class; None leaves them.

    Examples
    --------
    >>> import torch
    >>> [round(value, 4) for value in focused(-torch.log(torch.tensor([0.5, 0.9])), 2.0).tolist()]
    [0.1733, 0.0011]

    Source: Lin, Goyal, Girshick, He & Dollar, Focal loss for dense object detection, ICCV 2017, equation 4.
    """
    return losses if power is None else losses * (-losses).expm1().neg().clamp(min=1e-7) ** power
