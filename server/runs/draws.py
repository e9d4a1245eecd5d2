"""What the loop over rounds draws at random: always from the experiment's seed, the purpose and the round, so that a resumed run draws the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from shared_models.experiment import Federation

Pace = Callable[[str, int], float]
"""How long, on a simulated clock, a site takes for what it was asked in a round."""


def drawn(purpose: str, *of: int | str) -> np.random.Generator:
    """Return the generator of one draw.

    Examples
    --------
    >>> bool(drawn("order", 0, 1).random() == drawn("order", 0, 1).random() != drawn("order", 0, 2).random())
    True
    """
    text = "/".join(str(part) for part in (purpose, *of))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def sampled(sites: Sequence[str], here: Collection[str], settings: Federation, *, seed: int, round: int, spare: int = 0) -> list[str]:
    """Return which sites are asked in `round`, by name: all that are `here` without ``federation.sample``, never fewer than the quorum.

    The order is drawn over all `sites`, so that one that is away changes nothing but its own place.

    Parameters
    ----------
    spare : int
        So many more, for those that failed in an earlier attempt.

    Examples
    --------
    >>> sampled("abcd", "abcd", Federation(sample=0.5, quorum=1), seed=0, round=1)
    ['a', 'b']
    >>> sampled("abcd", "acd", Federation(sample=0.5, quorum=1), seed=0, round=1)
    ['a', 'c']
    >>> len(sampled("abcd", "abcd", Federation(sample=1, quorum=3), seed=0, round=1))
    3
    """
    names = sorted(set(sites))
    if settings.sample is None:
        return sorted(set(here))
    count = settings.sample if isinstance(settings.sample, int) else math.ceil(settings.sample * len(names) - 1e-9)
    order = [names[at] for at in drawn("sample", seed, round).permutation(len(names))]
    return sorted([site for site in order if site in here][: max(count, settings.quorum) + spare])


def simulated_pace(seed: int, slowness: float) -> Pace:
    """Return a pace of sites that differ: a job takes ``1 + slowness |z|``, `z` of a normal distribution, one for the site and one for the job.

    Half-normal times are what Nguyen et al. (2022, section 5) found nearest to those of real devices.

    Examples
    --------
    >>> simulated_pace(0, 0.0)("a", 1)
    1.0
    """

    def pace(site: str, round: int) -> float:
        own, now = abs(float(drawn("pace", seed, site).normal())), abs(float(drawn("pace", seed, site, round).normal()))
        return 1.0 + slowness * (own + now) / 2

    return pace
