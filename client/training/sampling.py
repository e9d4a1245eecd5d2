"""In which order an epoch meets the records: each once, or the classes equally often."""

from __future__ import annotations

import numpy as np
import torch


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
