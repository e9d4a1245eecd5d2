"""The nearest positive semidefinite matrix: what noisy sums of squares are brought back to."""

from __future__ import annotations

import numpy as np


def nearest_semidefinite(matrix: np.ndarray) -> np.ndarray:
    """Return the symmetric positive semidefinite matrix nearest to `matrix` in the Frobenius norm.

    The symmetric part with its negative eigenvalues set to 0 (Higham, Linear Algebra Appl 103, 1988, theorem 2.1).

    Parameters
    ----------
    matrix : ndarray, shape (n, n)

    Examples
    --------
    >>> (nearest_semidefinite(np.array([[1.0, 2.0], [0.0, 1.0]])) + 0.0).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    >>> nearest_semidefinite(np.diag([2.0, -1.0])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    even = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(even)
    if values[0] >= 0:
        return even
    mended = (vectors * np.maximum(values, 0)) @ vectors.T
    return (mended + mended.T) / 2
