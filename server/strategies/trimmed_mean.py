"""The mean of each parameter without its extremes."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from server.strategies.columnwise import columnwise
from server.strategies.strategy import Strategy, StrategySpec


def trimmed_mean(model: None, *, share: Annotated[float, Field(ge=0, lt=0.5)] = 0.2) -> Strategy:
    """Average the sites for every parameter without the `share` largest and the `share` smallest (Yin et al., ICML 2018, definition 2).

    Parameters
    ----------
    share : float
        Of the sites, cut off at each end and rounded down: that many hostile sites do no more than hide among the others. 0 is the plain
        mean with one vote a site.
    """
    del model

    return columnwise(lambda sites: cut_of(sites, share))


def cut_of(sites: int, share: float) -> int:
    """Return how many of `sites` are cut off at each end.

    Examples
    --------
    >>> cut_of(5, 0.2), cut_of(4, 0.2), cut_of(10, 0.3)
    (1, 0, 3)
    """
    return math.floor(sites * share + 1e-9)


SPEC = StrategySpec(
    trimmed_mean,
    fit="gradient",
    source="Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018",
    least=lambda knobs: math.ceil(1 / share - 1e-9) if (share := knobs.get("share", 0.2)) else 1,
)
