"""What every fitter gives back, and the seed of a round at a site."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from shared_models.core.arrays import State


@dataclass(frozen=True)
class Fitted:
    """The result of one round at one site: what may travel, and plain numbers about it."""

    state: State
    steps: int
    loss: float | None = None
    extra: State = field(default_factory=dict)


def round_seed(seed: int, round: int, site: str) -> int:
    """Return the seed of everything random at `site` in `round`: never the order in which calls happen to come.

    Examples
    --------
    >>> round_seed(0, 1, "alpha") == round_seed(0, 1, "alpha") != round_seed(0, 2, "alpha")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{round}/{site}".encode()).digest()[:7], "big")
