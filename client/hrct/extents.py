"""Measures of a pattern map that the rules read: extents of the whole lung, of zones and shells, and indices of where disease lies."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from client.segmentation.atlas import depth_shells, thirds
from client.segmentation.sides import LEFT, RIGHT
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput
from shared_models.taxonomy import PATTERN_CODES, PATTERNS

SUBPLEURAL_MM = 20.0
"""Depth of the subpleural shell of `subpleural_basal_index`."""

PARTS = {
    "reticulation": tuple(name for name, pattern in PATTERNS.items() if pattern.reticulation),
    "ggo": tuple(name for name, pattern in PATTERNS.items() if pattern.ground_glass),
    "fibrosis": tuple(name for name, pattern in PATTERNS.items() if pattern.fibrosis),
    "ild": tuple(name for name in PATTERNS if name not in ("normal", "emphysema")),
    **{name: (name,) for name in ("honeycombing", "consolidation", "micronodules", "emphysema")},
}
"""Extent to the patterns that count to it."""

ZONES = ("lower", "middle", "upper")


def regions_of(mask: Mask, spacing_mm: tuple[float, float, float]) -> dict[str, NDArray[np.bool_]]:
    """Return which voxels of ``mask > 0``, in the order of the array, lie in each region that `extents_of` names."""
    inside = mask > 0
    side, third = mask[inside], thirds(mask)[inside]
    shallow = depth_shells(mask, spacing_mm, edges_mm=(SUBPLEURAL_MM,))[inside] == 1
    basal = shallow & (third == 1)
    regions = {"whole": np.ones(len(side), bool), "right": side == RIGHT, "left": side == LEFT}
    regions |= {"subpleural": shallow, "central": ~shallow, "subpleural_basal": basal, "elsewhere": ~basal}
    for number, zone in enumerate(ZONES, 1):
        regions |= {zone: third == number, f"{zone}_right": (third == number) & (side == RIGHT), f"{zone}_left": (third == number) & (side == LEFT)}
    return regions


def extents_of(labels: Mask, mask: Mask, spacing_mm: tuple[float, float, float]) -> dict[str, dict[str, float]]:
    """Return the extent of everything in `PARTS`, percent of the lung voxels of each region.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Pattern map: codes of `PATTERNS`. z grows towards the head. Labels outside the lung do not count.
    mask : ndarray of uint8, shape (z, y, x)
        Lung mask: 0 elsewhere, 1 right lung, 2 left lung.
    spacing_mm : tuple of float
        (z, y, x), millimetres.

    Returns
    -------
    dict of region to dict
        ``whole``; the patient's own sides ``right`` and ``left``; the thirds of the height ``lower``, ``middle``, ``upper``; the six zones
        (``lower_right``); ``subpleural`` (less than 20 mm under the surface of its lung) and ``central``; ``subpleural_basal`` (subpleural in the
        lower third) and ``elsewhere``. NaN in a region without lung.

    Raises
    ------
    BadInput
        Shapes differ, a label is no pattern, or there is no lung.

    Examples
    --------
    >>> mask = np.ones((3, 2, 2), np.uint8)
    >>> labels = np.zeros_like(mask)
    >>> labels[0] = 3
    >>> found = extents_of(labels, mask, (5.0, 5.0, 5.0))
    >>> found["lower"]["honeycombing"], found["upper"]["honeycombing"], round(found["whole"]["fibrosis"], 1)
    (100.0, 0.0, 33.3)
    """
    if labels.shape != mask.shape:
        raise BadInput("a pattern map and its lung mask have one shape", value=(labels.shape, mask.shape))
    if not mask.any():
        raise BadInput("a pattern map needs lung in its mask", value=0)
    if labels[mask > 0].max() >= len(PATTERNS):
        raise BadInput(f"labels of a pattern map are 0 to {len(PATTERNS) - 1}", value=int(labels[mask > 0].max()))
    label = labels[mask > 0]
    return {name: _extents(label[where]) for name, where in regions_of(mask, spacing_mm).items()}


def _extents(label: np.ndarray) -> dict[str, float]:
    counts = np.bincount(label, minlength=len(PATTERNS))
    total = int(counts.sum())
    return {name: 100 * float(sum(counts[PATTERN_CODES[p]] for p in parts)) / total if total else math.nan for name, parts in PARTS.items()}


def ratio_of(above: float, below: float) -> float:
    """Return ``above / below``: infinite where only `below` is 0, and 0 where both are.

    Examples
    --------
    >>> ratio_of(3.0, 2.0), ratio_of(3.0, 0.0), ratio_of(0.0, 0.0)
    (1.5, inf, 0.0)
    """
    if below > 0:
        return above / below
    return math.inf if above > 0 else 0.0


def measures_of(
    extents: dict[str, dict[str, float]],
    *,
    told: Collection[str] = tuple(PATTERNS),
    traction_index: float | None = None,
    mosaic: bool | None = None,
) -> dict[str, float | None]:
    """Return what the rules read; None is *not known*.

    Parameters
    ----------
    extents : dict
        Of `extents_of`.
    told : collection of str
        Patterns that the map can show at all: an extent of one that it cannot is not known, though the map holds none of it.
    traction_index : float, optional
        Mean area of the airway lumina over that expected at their depth; above 1 with traction bronchiectasis. A pattern map does not hold it.
    mosaic : bool, optional
        Whether the CT shows marked mosaic attenuation. A pattern map does not hold it.

    Returns
    -------
    dict
        Extents of the whole lung ``<part>_percent``; ``subpleural_basal_index`` and ``upper_middle_index``, ratios of extents (of fibrosis in the
        subpleural lower third to elsewhere; of ILD in the upper two thirds to the lower); ``ggo_over_reticulation``; ``traction_index``,
        ``mosaic`` (0 or 1).
    """
    whole = extents["whole"]
    known = {name: all(pattern in told for pattern in parts) for name, parts in PARTS.items()}
    out: dict[str, float | None] = {f"{name}_percent": whole[name] if known[name] else None for name in PARTS}
    fibrosis, ild = known["fibrosis"], known["ild"]
    out["subpleural_basal_index"] = ratio_of(extents["subpleural_basal"]["fibrosis"], extents["elsewhere"]["fibrosis"]) if fibrosis else None
    over = np.nanmean([extents[zone]["ild"] for zone in ("middle", "upper")]) if ild else 0.0
    out["upper_middle_index"] = ratio_of(float(over), extents["lower"]["ild"]) if ild else None
    out["ggo_over_reticulation"] = ratio_of(whole["ggo"], whole["reticulation"]) if known["ggo"] and known["reticulation"] else None
    out["traction_index"] = traction_index
    out["mosaic"] = None if mosaic is None else float(mosaic)
    return out
