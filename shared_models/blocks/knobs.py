"""Knobs that many networks share, as types with their bounds; no torch here, so that a table of networks loads at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Norm = Literal["group", "batch"]
"""``group`` treats each patient alone; ``batch`` is for published weights: it mixes patients, so privacy of patients refuses it."""

NormOrNone = Literal["group", "batch", "none"]
"""As `Norm`; ``none`` is the network as it was published before normalisation existed."""

Features = Annotated[int, Field(ge=8, le=4096)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
