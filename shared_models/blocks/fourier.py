"""Random Fourier features: a Gaussian kernel as a product of features that every site makes alike from an agreed seed."""

from __future__ import annotations

import numpy as np


def fourier_features(x: np.ndarray, *, features: int, gamma: float, seed: int) -> np.ndarray:
    """Return features whose products come near to ``exp(-gamma |a - b|^2)``, and a last one of 1, shape (n, features + 1).

    Parameters
    ----------
    x : ndarray, shape (n, columns)
        In like units.
    features : int
        How many; the error falls with their square root.
    gamma : float
        Width of the kernel.
    seed : int
        Of directions and phases: the same at every site.

    Notes
    -----
    Rahimi & Recht, NeurIPS 2007.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> found = fourier_features(x, features=4000, gamma=0.5, seed=0)[:, :-1]
    >>> bool(abs(found[0] @ found[1] - np.exp(-0.5)) < 0.03)
    True
    """
    generator = np.random.default_rng(seed)
    directions = generator.normal(0, np.sqrt(2 * gamma), (x.shape[1], features))
    phases = generator.uniform(0, 2 * np.pi, features)
    return np.column_stack([np.sqrt(2 / features) * np.cos(x @ directions + phases), np.ones(len(x))])
