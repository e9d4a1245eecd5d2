"""The middle of a few numbers, for millions of parameters at once: which site has which value does not matter, only their order.

A handful of sites is sorted by a network of minima and maxima over whole rows, which the processor does many values at a time; steps that the
wanted ranks do not depend on are left out. Many sites are sorted parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

NETWORK_SITES = 24
"""Most sites for the network: its steps grow faster than the sites."""


def ranks(rows: np.ndarray, first: int, stop: int) -> Iterator[np.ndarray]:
    """Yield, for ranks `first` to `stop` - 1 of the sites, the value of that rank of every parameter. `rows` (sites, values) is used up.

    Examples
    --------
    >>> rows = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 9.0]])
    >>> [values.tolist() for values in ranks(rows, 1, 3)]
    [[2.0, 2.0], [3.0, 9.0]]
    """
    if len(rows) > NETWORK_SITES:
        yield from np.sort(np.ascontiguousarray(rows.T), axis=1).T[first:stop]
        return
    sites, spare = list(rows), np.empty_like(rows[0])
    for low, high, lower, higher in network(len(rows), first, stop):
        if lower and higher:
            np.minimum(sites[low], sites[high], out=spare)
            np.maximum(sites[low], sites[high], out=sites[high])
            sites[low], spare = spare, sites[low]
        elif lower:
            np.minimum(sites[low], sites[high], out=sites[low])
        else:
            np.maximum(sites[low], sites[high], out=sites[high])
    yield from sites[first:stop]


@lru_cache(maxsize=64)
def network(sites: int, first: int, stop: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return the steps that put ranks `first` to `stop` - 1 in place: two rows to compare, and whether the lesser and the greater are needed.

    Odd-even merge sort for any number of rows (Batcher, AFIPS 1968; Knuth, The art of computer programming, volume 3, algorithm 5.2.2M),
    walked backwards from the wanted ranks.

    Examples
    --------
    >>> network(3, 1, 2)
    ((0, 1, True, True), (0, 2, False, True), (1, 2, True, False))
    """
    steps: list[tuple[int, int]] = []
    length = 1
    while length < sites:
        gap = length
        while gap >= 1:
            for begin in range(gap % length, sites - gap, 2 * gap):
                for row in range(begin, min(begin + gap, sites - gap)):
                    if row // (2 * length) == (row + gap) // (2 * length):
                        steps.append((row, row + gap))
            gap //= 2
        length *= 2
    needed, kept = set(range(first, stop)), []
    for low, high in reversed(steps):
        if low in needed or high in needed:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))
