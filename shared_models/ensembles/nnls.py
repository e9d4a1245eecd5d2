"""Weights of the members by non-negative least squares, exact from a summed Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared_models.core.arrays import State
from shared_models.ensembles.spec import EnsembleSpec


class NonNegative:
    """``min |sum_m w_m p_m - e_y|^2`` over all patients and classes, ``w >= 0``, then scaled to sum 1."""

    def __init__(self, members: int) -> None:
        self.members = members

    def start(self) -> State:
        """Return equal weights."""
        return {"weights": np.full(self.members, 1 / self.members)}

    def contribution(self, state: State, p: np.ndarray, y: np.ndarray) -> State:
        """Return the members' products with one another (members, members) and with the truth (members,)."""
        del state
        return {"gram": np.einsum("anc,bnc->ab", p, p), "truth": p[:, np.arange(len(y)), y].sum(1)}

    def combine(self, state: State, contributions: Sequence[State]) -> State:
        """Return the weights from the total alone: with ``G = A^T A`` the same as from all predictions ``A``."""
        from scipy.optimize import nnls as solve

        gram = np.sum([part["gram"] for part in contributions], axis=0)
        truth = np.sum([part["truth"] for part in contributions], axis=0)
        values, vectors = np.linalg.eigh((gram + gram.T) / 2)
        kept = values > 1e-12 * max(float(values.max(initial=0)), 1e-300)
        root = np.sqrt(values[kept])
        weights, _ = solve(root[:, None] * vectors[:, kept].T, (vectors[:, kept].T @ truth) / root)
        return {"weights": weights / weights.sum()} if weights.sum() > 0 else state

    def predict(self, state: State, p: np.ndarray) -> np.ndarray:
        """Return the weighted mean."""
        return np.einsum("m,mnc->nc", state["weights"], p)


def nnls(members: int, classes: int) -> NonNegative:
    """Weigh the members so that their mean is nearest to the truth in squares (the Brier score), none below 0; one round.

    Parameters
    ----------
    members, classes : int
        Of the ensemble.

    Examples
    --------
    >>> good, bad, y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.full((2, 2), 0.5), np.array([0, 1])
    >>> fit = nnls(2, 2)
    >>> state = fit.combine(fit.start(), [fit.contribution(fit.start(), np.stack([good, bad]), y)])
    >>> state["weights"].round(3).tolist()
    [1.0, 0.0]
    """
    del classes
    return NonNegative(members)


SPEC = EnsembleSpec(nnls, rounds=1, source="Breiman, Stacked regressions, Machine Learning 1996; Lawson & Hanson, Solving least squares problems, 23")
