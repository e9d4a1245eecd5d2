"""How much of the lung shows what, and where: percent and millilitres of each pattern by region, and the bin of each extent."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from client.hrct.extents import PARTS, ZONES, extents_of, regions_of
from shared_models.core.arrays import Mask
from shared_models.taxonomy import PATTERNS

REGIONS = ("whole", "right", "left", *ZONES, *(f"{zone}_{side}" for zone in ZONES for side in ("right", "left")), "subpleural", "central")
"""Regions that are told, in order: lungs, thirds of the height, six zones, shells less and more than 20 mm under the pleura."""

BINS = ((5.0, "<5"), (30.0, "5-29"), (math.inf, ">=30"))
"""Upper bound (exclusive) of an extent in percent, and its bin. Karampitsakos et al., Front Med 2023."""


def bin_of(percent: float) -> str | None:
    """Return the bin of an extent; None of one that is undefined.

    Examples
    --------
    >>> bin_of(4.9), bin_of(5.0), bin_of(29.99), bin_of(30.0)
    ('<5', '5-29', '5-29', '>=30')
    """
    return next((name for upper, name in BINS if percent < upper), None)


def known_parts(told: Collection[str]) -> tuple[str, ...]:
    """Return the lines of `PARTS` that a map of the patterns `told` can show in full.

    Examples
    --------
    >>> known_parts(("normal", "ggo", "reticulation", "ggo_reticulation", "honeycombing"))
    ('reticulation', 'ggo', 'fibrosis', 'honeycombing')
    """
    return tuple(name for name, parts in PARTS.items() if all(part in told for part in parts))


def quantities_of(
    labels: Mask, mask: Mask, spacing_mm: tuple[float, float, float], *, told: Collection[str] = tuple(PATTERNS)
) -> dict[str, dict[str, Any]]:
    """Return for each region its volume and what of it shows each part.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Pattern map: codes of `PATTERNS`. z grows towards the head.
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask: 0 elsewhere, 1 right lung, 2 left lung.
    spacing_mm : tuple of float
        (z, y, x), millimetres.
    told : collection of str
        Patterns that the map can show; parts that need others are left out.

    Returns
    -------
    dict of region to dict
        ``lung_ml``; ``percent`` and ``ml`` by part (percent NaN in a region without lung); ``bin`` by part.

    Raises
    ------
    BadInput
        As `extents_of`.

    Examples
    --------
    >>> mask = np.ones((3, 2, 2), np.uint8)
    >>> labels = np.zeros_like(mask)
    >>> labels[0] = 3
    >>> found = quantities_of(labels, mask, (10.0, 10.0, 10.0))["whole"]
    >>> found["lung_ml"], found["ml"]["fibrosis"], round(found["percent"]["fibrosis"], 1), found["bin"]["fibrosis"]
    (12.0, 4.0, 33.3, '>=30')
    """
    extents, parts = extents_of(labels, mask, spacing_mm), known_parts(told)
    voxel_ml = math.prod(spacing_mm) / 1000.0
    volumes = {name: float(np.count_nonzero(where)) * voxel_ml for name, where in regions_of(mask, spacing_mm).items()}
    out: dict[str, dict[str, Any]] = {}
    for region in REGIONS:
        percent = {part: extents[region][part] for part in parts}
        ml = {part: volumes[region] * value / 100.0 if volumes[region] else 0.0 for part, value in percent.items()}
        out[region] = {"lung_ml": volumes[region], "percent": percent, "ml": ml, "bin": {part: bin_of(value) for part, value in percent.items()}}
    return out
