"""Rows held out by a checksum of their numbers: sites agree on who is held out without telling anybody.

The same row is held out wherever it lies, so a federation splits as the pooled rows would be split, and equal rows are never apart.
"""

from __future__ import annotations

import zlib

import numpy as np


def held_out(x: np.ndarray, share: float) -> np.ndarray:
    """Return which rows of x (n, columns) are held out, about that share of them, shape (n,) of bool.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1000, 3))
    >>> bool(abs(held_out(x, 0.3).mean() - 0.3) < 0.05), bool((held_out(x, 0.3)[::-1] == held_out(x[::-1], 0.3)).all())
    (True, True)
    """
    return _checksums(x) < share * 2**32


def folds_of(x: np.ndarray, count: int) -> np.ndarray:
    """Return the fold of each row of x (n, columns), 0 to count - 1, shape (n,).

    Examples
    --------
    >>> folds_of(np.zeros((2, 3)), 5).tolist()[0] == folds_of(-np.zeros((1, 3)), 5).tolist()[0]
    True
    """
    return _checksums(x) % count


def _checksums(x: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(np.asarray(x, np.float64) + 0.0)  # -0 and 0 are one number
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.int64)
