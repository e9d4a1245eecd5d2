"""Extents of patterns as columns: how much of the lung, of each side, third, zone and shell shows what, by a pattern map.

The map is what readers have drawn, or is made by a release that labels patterns; that lies at the site, in the folder that FEDILD_WEIGHTS names.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from client.cases.prepared import Prepared
from client.features.roi import hu_of, side_mask
from client.hrct.extents import PARTS
from client.hrct.quantities import REGIONS, quantities_of
from client.pattern_maps import PatternSource, drawn_map, load_source
from client.preprocessing import STEPS
from shared_models.core.choices import Section, pick
from shared_models.core.errors import BadInput
from shared_models.pretrained import FOLDER
from shared_models.taxonomy import PATTERNS


class PatternRelease(Section):
    """A release that labels patterns: its folder, and the SHA-256 that is its identity (``bundle`` in its manifest)."""

    path: Annotated[str, Field(min_length=1, max_length=500)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def extents_names() -> tuple[str, ...]:
    """Return the columns of `extents` in order.

    Examples
    --------
    >>> len(extents_names()), extents_names()[0], extents_names()[-1]
    (120, 'whole_reticulation_extent_percent', 'whole_emphysema_extent_ml')
    """
    percent = (f"{region}_{part}_extent_percent" for region in REGIONS for part in PARTS)
    return (*percent, *(f"whole_{part}_extent_ml" for part in PARTS))


def extents(prepared: Prepared, *, patterns: Literal["annotation"] | PatternRelease = "annotation") -> dict[str, float]:
    """Return percent of the lung by region, and millilitres of both lungs, of each part of `client.hrct.extents.PARTS`.

    Parameters
    ----------
    prepared : Prepared
        Study with its lung mask, shape (z, y, x); in HU where a release makes the map.
    patterns : "annotation" or table
        What readers have drawn, where they have looked at the whole lung; or `path` and `sha256` of a release. A release takes its own steps of
        preparation (harmonising kernels) itself: leave them out of ``[preparation]``.

    Returns
    -------
    dict
        Keys of `extents_names`; NaN where nobody has drawn, where a region is empty, and of parts that the release cannot show in full.

    Raises
    ------
    BadInput
        No lung mask; intensities that are no HU; E_WEIGHTS: no such release, or another one.
    """
    names = extents_names()
    if not side_mask(prepared).any() or prepared.mask is None:
        return dict.fromkeys(names, math.nan)
    told = tuple(PATTERNS)
    if isinstance(patterns, PatternRelease):
        hu_of(prepared)
        source = _source(patterns.path, patterns.sha256)
        labels, told = source.map_of(_stepped(prepared, source)), source.told
    else:
        try:
            labels = drawn_map(prepared)
        except BadInput:
            return dict.fromkeys(names, math.nan)
    found = quantities_of(labels, prepared.mask, prepared.volume.spacing_mm, told=told)
    percent = {f"{region}_{part}_extent_percent": value for region in REGIONS for part, value in found[region]["percent"].items()}
    ml = {f"whole_{part}_extent_ml": value for part, value in found["whole"]["ml"].items()}
    return {name: float((percent | ml).get(name, math.nan)) for name in names}


def ready_extents(*, patterns: Literal["annotation"] | PatternRelease = "annotation") -> None:
    """Read the release before the first study.

    Raises
    ------
    BadInput
        As `extents`.
    """
    if isinstance(patterns, PatternRelease):
        _source(patterns.path, patterns.sha256)


def _stepped(prepared: Prepared, source: PatternSource) -> Prepared:
    for choice in source.preparation.steps if source.preparation else ():
        prepared = pick(STEPS, choice, kind="step")(prepared)
    return prepared


@functools.lru_cache(maxsize=4)
def _source(path: str, digest: str) -> PatternSource:
    found = load_source(Path(os.environ.get(FOLDER, ".")) / path)
    if found.digest != digest:
        raise BadInput("the release of patterns must have the SHA-256 that the experiment names", value=found.digest, code="E_WEIGHTS")
    return found
