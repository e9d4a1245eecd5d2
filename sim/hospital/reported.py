"""What a phantom hospital's reader reports of a patient: each finding present or absent by what was planted, or not known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

REPORTED: dict[str, tuple[str, ...]] = {
    "ggo": ("ggo", "ggo_reticulation"),
    "reticulation": ("reticulation", "ggo_reticulation"),
    "honeycombing": ("honeycombing",),
    "consolidation": ("consolidation",),
    "micronodules": ("micronodules",),
    "emphysema": ("emphysema",),
}
"""Finding to the planted patterns that show it."""

LEAST_PERCENT = 1.0
"""Of the lung: less than that a reader does not report."""

COLUMNS = tuple(f"finding_{name}" for name in REPORTED)
"""Of clinical.csv, after the others."""


def reported_cells(extents: Mapping[str, float], known: float, rng: np.random.Generator) -> list[str]:
    """Return the cells of `COLUMNS`: 1, 0, or empty for a share of 1 - `known` of them.

    Parameters
    ----------
    extents : mapping of pattern to percent of the lung
        As planted.
    known : float
        Probability that a finding was looked for.
    rng : numpy.random.Generator
        Of this patient and visit.

    Examples
    --------
    >>> reported_cells({"honeycombing": 4.0, "ggo_reticulation": 3.0, "ggo": 0.4}, 1.0, np.random.default_rng(0))
    ['1', '1', '1', '0', '0', '0']
    """
    there = [sum(extents.get(pattern, 0.0) for pattern in patterns) >= LEAST_PERCENT for patterns in REPORTED.values()]
    return [str(int(one)) if asked < known else "" for one, asked in zip(there, rng.uniform(size=len(there)), strict=True)]
