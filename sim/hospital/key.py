"""The key of a phantom hospital."""

from __future__ import annotations

import hashlib


def phantom_secret(seed: int, hospital: str) -> bytes:
    """Return the key of a phantom hospital's pseudonyms: from the seed, so that pseudonyms and splits are the same in every run.

    Examples
    --------
    >>> len(phantom_secret(0, "alpha"))
    32
    """
    return hashlib.sha256(f"phantom key {seed} {hospital}".encode()).digest()
