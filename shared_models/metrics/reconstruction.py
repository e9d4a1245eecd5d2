"""How well hidden parts of images are drawn: the share of their variance that is explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shared_models.core.errors import BadInput
from shared_models.metrics.intervals import bootstrap_counts
from shared_models.metrics.resampled_intervals import patients_of, resampled_interval

RECONSTRUCTION_METRICS = ("explained_variance",)
"""Headlines of target ``reconstruction``."""


def score_reconstruction(
    unexplained: Sequence[float], *, groups: Sequence[str] | None = None, seed: int = 0, bootstrap: int = 1000
) -> dict[str, dict[str, Any]]:
    """Return the mean share of explained variance over records, with its bootstrap interval over patients.

    Parameters
    ----------
    unexplained : sequence of float
        Of each record: the squared error on hidden pixels over their variance.
    groups : sequence of str, optional
        Patients of the records.

    Raises
    ------
    BadInput
        A share that is negative or not finite.

    Examples
    --------
    >>> score_reconstruction([0.25, 0.75], bootstrap=0)["explained_variance"]["value"]
    0.5
    """
    shares = 1.0 - np.asarray(unexplained, np.float64)
    if not np.isfinite(shares).all() or (shares > 1).any():
        raise BadInput("an unexplained share is a finite number that is not negative")
    value = float(shares.mean()) if len(shares) else None
    low, high = None, None
    if len(shares) and bootstrap:
        counts = bootstrap_counts(len(shares), bootstrap, groups=groups, seed=seed)
        # A share may be negative where what is drawn is worse than the mean: no logit.
        rows = counts @ shares / np.maximum(counts.sum(1), 1)
        low, high = resampled_interval(rows, float(shares.mean()), patients_of(groups, len(shares)), scale="difference") or (None, None)
    return {"explained_variance": {"value": value, "low": low, "high": high, "n": len(shares), "patients": patients_of(groups, len(shares))}}
