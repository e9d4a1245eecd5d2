"""What a prediction says of the HRCT category: the suggestion of the rules where a pattern map is at hand, or that it needs one."""

from __future__ import annotations

from typing import Any

from client.cases.prepared import Prepared
from client.hrct.extents import extents_of, measures_of
from client.hrct.quantities import known_parts, quantities_of
from client.hrct.rules import categorise
from client.pattern_maps import PatternSource
from shared_models.core.arrays import Mask
from shared_models.core.errors import BadInput

NEEDED = {"category": None, "needs": "a pattern map"}
"""What is said where no network of patterns was named."""

REGIONS = ("whole", "upper", "middle", "lower", "subpleural", "central")
"""Regions whose extents a prediction shows."""


def suggested(prepared: Prepared, source: PatternSource | None) -> tuple[dict[str, Any], dict[str, Any] | None, Mask | None]:
    """Return what ``prediction.json`` says of the category of one series, its ``quantities`` by region, and the pattern map itself.

    Parameters
    ----------
    prepared : Prepared
        The series with its lung mask, as the source wants it prepared.
    source : PatternSource or None
        Makes the pattern map; without it the answer is that it needs one.
    """
    if source is None:
        return dict(NEEDED), None, None
    if prepared.mask is None:
        raise BadInput("a pattern map needs a lung mask", remedy="name a segmenter in [preparation]")
    labels, spacing_mm = source.map_of(prepared), prepared.volume.spacing_mm
    extents = extents_of(labels, prepared.mask, spacing_mm)
    known = known_parts(source.told)
    shown = {region: {name: round(value, 3) if name in known else None for name, value in extents[region].items()} for region in REGIONS}
    category = {"needs": None, **categorise(measures_of(extents, told=source.told)).as_dict(), "extents": shown, "network": source.digest}
    return category, {"told": list(source.told), "regions": quantities_of(labels, prepared.mask, spacing_mm, told=source.told)}, labels
