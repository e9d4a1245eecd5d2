"""How often one address may do a thing: a token bucket for each.

A bucket holds at most `burst` tokens and gains `per_s` each second; who finds none must wait. (Turner, IEEE Communications Magazine 24(10),
1986: the leaky bucket as a meter.)
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

MOST_BUCKETS = 10_000
"""Addresses that are remembered; full buckets are forgotten first, as a new one would be full too."""


class Buckets:
    """One bucket for each address.

    Parameters
    ----------
    per_s : float
        Tokens gained each second.
    burst : int
        Tokens that a bucket holds at most, and holds at first.
    clock : callable, optional
        Seconds that only grow.

    Examples
    --------
    >>> buckets = Buckets(per_s=1.0, burst=2, clock=lambda: 0.0)
    >>> [buckets.take("192.0.2.1") for _ in range(3)], buckets.take("192.0.2.2")
    ([True, True, False], True)
    """

    def __init__(self, *, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_s, self.burst, self.clock = per_s, burst, clock
        self._filled: dict[str, tuple[float, float]] = {}

    def take(self, address: str) -> bool:
        """Take a token of `address`; return False when it has none."""
        key, left = network_of(address), self._left(address)
        if left < 1.0:
            return False
        if key not in self._filled and len(self._filled) >= MOST_BUCKETS:
            self._forget()
        self._filled[key] = (left - 1.0, self.clock())
        return True

    def is_empty(self, address: str) -> bool:
        """Say whether `address` has no token left."""
        return self._left(address) < 1.0

    def _left(self, address: str) -> float:
        tokens, at = self._filled.get(network_of(address), (float(self.burst), self.clock()))
        return min(float(self.burst), tokens + (self.clock() - at) * self.per_s)

    def _forget(self) -> None:
        now = self.clock()
        self._filled = {key: (tokens, at) for key, (tokens, at) in self._filled.items() if tokens + (now - at) * self.per_s < self.burst}
        for key in list(self._filled)[: max(0, len(self._filled) - MOST_BUCKETS // 2)]:
            del self._filled[key]


def network_of(address: str) -> str:
    """Return what counts as one peer: an IPv4 address, or the /64 that one IPv6 customer is given whole.

    Examples
    --------
    >>> network_of("192.0.2.1"), network_of("2001:db8::1") == network_of("2001:db8::2"), network_of("::ffff:192.0.2.1")
    ('192.0.2.1', True, '192.0.2.1')
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
