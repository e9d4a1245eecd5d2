"""Agreed times: where curves are read and intervals end, the same at every site."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from shared_models.core.errors import BadChoice

HALF_YEARS = tuple(0.5 * number for number in range(1, 11))
"""Every half year up to five, for times in years."""

Times = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1, max_length=512)]
"""A knob that names times, in the unit of ``data.time``."""


def check_rising(times: Sequence[float], what: str) -> None:
    """Refuse times that do not rise.

    Raises
    ------
    BadChoice
        Naming `what`.

    Examples
    --------
    >>> check_rising((1.0, 2.0), "model.times")
    >>> check_rising((2.0, 1.0), "model.times")
    Traceback (most recent call last):
    ...
    shared_models.core.errors.BadChoice: model.times rise; found [2.0, 1.0]; name each time once, the earliest first
    """
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise BadChoice(f"{what} rise", value=list(times)[:8], remedy="name each time once, the earliest first")
