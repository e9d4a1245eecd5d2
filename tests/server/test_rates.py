"""Token buckets: bursts, refills, one address at a time, and a memory that ends."""

from __future__ import annotations

from server.rates import MOST_BUCKETS, Buckets, network_of


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_rate() -> None:
    clock = Clock()
    buckets = Buckets(per_s=2.0, burst=5, clock=clock)
    assert [buckets.take("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert buckets.is_empty("a")
    clock.now += 0.4
    assert not buckets.take("a")
    clock.now += 0.2
    assert buckets.take("a")
    clock.now += 1000
    assert [buckets.take("a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert not buckets.is_empty("b")


def test_refused_tries_do_not_put_off_the_next_token() -> None:
    clock = Clock()
    buckets = Buckets(per_s=1.0, burst=1, clock=clock)
    assert buckets.take("a")
    for _ in range(10):
        clock.now += 0.11
        taken = buckets.take("a")
    assert taken


def test_one_customer_of_ipv6_is_one_peer() -> None:
    buckets = Buckets(per_s=1.0, burst=2, clock=Clock())
    assert [buckets.take(f"2001:db8::{n:x}") for n in range(4)] == [True, True, False, False]
    assert buckets.take("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"


def test_a_million_addresses_are_not_remembered() -> None:
    clock = Clock()
    buckets = Buckets(per_s=0.001, burst=1, clock=clock)
    buckets.take("10.9.9.9")
    for number in range(3 * MOST_BUCKETS):
        buckets.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(buckets._filled) <= MOST_BUCKETS
