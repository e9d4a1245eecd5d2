"""Profile-likelihood intervals of a Cox model, as its last rounds have found them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared_models.blocks.profile_ends import CLOSE
from shared_models.core.arrays import State


def profile_table(state: State) -> dict[str, NDArray[np.float64]]:
    """Return the 95 % interval of each log hazard ratio a unit: `low` and `high`, each of shape (columns,).

    NaN where an end is not found: too few rounds were left, a site was missing, or the likelihood never falls that far.

    Parameters
    ----------
    state : dict
        Of a `cox` with ``profile = true`` after its last round; another one has no interval.

    Source: Venzon & Moolgavkar, Appl Stat 1988;37:87.
    """
    columns = len(state["coefficients"])
    found = np.full(2 * columns, np.nan)
    if "ends" in state:
        own = np.arange(2 * columns)
        found = np.where(state["misses"] <= CLOSE, state["ends"][own, own % columns], np.nan)
    low, high = found.reshape(2, columns) / state["scale"]
    return {"low": low, "high": high}
