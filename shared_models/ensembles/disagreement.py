"""How much the members of an ensemble disagree about a patient: what more training could resolve, apart from what no model can know."""

from __future__ import annotations

import numpy as np

from shared_models.ensembles.spec import LEAST


def entropy(p: np.ndarray) -> np.ndarray:
    """Return the entropy of probabilities (..., classes) over the last axis, nats.

    Examples
    --------
    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    return 0.0 - (p * np.log(np.maximum(p, LEAST))).sum(-1)


def disagreement(p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mutual information between class and member: the entropy of the mean less the mean of the entropies, nats, never below 0.

    Members that are all unsure in the same way do not disagree; members that are sure of different classes do.

    Parameters
    ----------
    p : ndarray, shape (members, n, classes)
        Class probabilities.
    weights : ndarray, shape (members,), optional
        Of the members, summing to 1; equal by default.

    Returns
    -------
    ndarray, shape (n,)

    Source: Depeweg et al., Decomposition of uncertainty in Bayesian deep learning, ICML 2018, equation 4; of deep ensembles: Lakshminarayanan et
    al., NeurIPS 2017.

    Examples
    --------
    >>> sure, unsure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.full((2, 1, 2), 0.5)
    >>> disagreement(sure).round(4).tolist(), disagreement(unsure).round(4).tolist()
    ([0.6931], [0.0])
    """
    shares = np.full(len(p), 1 / len(p)) if weights is None else np.asarray(weights, np.float64)
    return np.maximum(entropy(np.einsum("m,mnc->nc", shares, p)) - shares @ entropy(p), 0.0)
