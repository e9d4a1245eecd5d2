"""Knobs that many networks share, as types with their bounds; no torch here, so that a table of networks loads at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared_models.core.errors import BadChoice

Norm = Literal["group", "batch"]
"""``group`` treats each patient alone; ``batch`` is for published weights: it mixes patients, so privacy of patients refuses it."""

NormOrNone = Literal["group", "batch", "none"]
"""As `Norm`; ``none`` is the network as it was published before normalisation existed."""

Share = Annotated[float, Field(ge=0, le=1)]
Contrast = tuple[Share, Share]
"""From and to where of the HU window (0..1) a network reads; what it reads is stretched to 0..1."""

Features = Annotated[int, Field(ge=8, le=4096)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


def checked_contrast(contrast: tuple[float, float]) -> tuple[float, float]:
    """Return a contrast that goes upwards.

    Raises
    ------
    BadChoice
        It does not.

    Examples
    --------
    >>> checked_contrast((0.25, 0.65))
    (0.25, 0.65)
    """
    if not contrast[0] < contrast[1]:
        raise BadChoice("contrast goes from low to high", value=contrast, remedy="contrast = [0.25, 0.65], for example")
    return contrast
