"""In which order an epoch meets the records: each once, or the classes equally often."""

from __future__ import annotations

import numpy as np
import torch

from shared_models.patterns import UNLABELLED


def strata_of(labels: np.ndarray, targets: np.ndarray | None) -> np.ndarray:
    """Return the number by which each record is drawn under a balanced sampler, int64 (n,): its class, or the rarest class that is drawn on it.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,)
        Class numbers.
    targets : ndarray, shape (n, ...), optional
        Maps of classes (uint8): the rarest class of a record is the one that the fewest records hold, the first of several; records that nobody
        has drawn on are a class of their own. Targets of another kind are of no matter.

    Examples
    --------
    >>> maps = np.array([[0, 0, 1], [0, 0, 255], [0, 2, 1], [254, 254, 255]], np.uint8)
    >>> strata_of(np.zeros(4, np.int64), maps[:, None, None]).tolist()
    [1, 0, 2, 3]
    """
    if targets is None or targets.dtype != np.uint8 or not len(targets):
        return labels
    maps = targets.reshape(len(targets), -1)
    classes = np.unique(maps[maps < UNLABELLED])
    held = np.array([(maps == number).any(1) for number in classes]).reshape(len(classes), len(maps))
    counts = np.where(held, held.sum(1)[:, None], len(maps) + 1)
    return np.where(held.any(0), counts.argmin(0), len(classes)) if len(classes) else np.zeros(len(maps), np.int64)


def order_of(labels: np.ndarray, generator: torch.Generator, sampler: str | None) -> list[int]:
    """Return the numbers of the records of one epoch.

    Parameters
    ----------
    labels : ndarray of int64, shape (n,)
        Class numbers.
    generator : Generator
        Source of the order; it lies in the checkpoint of a round.
    sampler : str or None
        ``balanced``: n records, drawn with replacement so that each class that the site has comes equally often on average; rare ones repeat.
        None: every record once.

    Source: Kang et al., Decoupling representation and classifier for long-tailed recognition, ICLR 2020, equation 1 with q = 0.

    Examples
    --------
    >>> drawn = order_of(np.repeat([0, 1], [900, 100]), torch.Generator().manual_seed(0), "balanced")
    >>> len(drawn), bool(abs(np.mean(np.array(drawn) >= 900) - 0.5) < 0.05)
    (1000, True)
    """
    if sampler is None:
        return torch.randperm(len(labels), generator=generator).tolist()
    counts = np.bincount(labels)
    shares = torch.from_numpy(1.0 / counts[labels])
    return torch.multinomial(shares, len(labels), replacement=True, generator=generator).tolist()
