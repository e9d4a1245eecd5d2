"""Fixed point: no sum can overflow whatever the sites send, and what comes back is the sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.core.errors import BadState
from shared_models.secure_sum.fixed_point import change_bits, decode_change, decode_exact, encode_change, encode_exact, rest_bits

many = st.integers(3, 10_000)
bounds = st.floats(1e-3, 1e6)


@given(many, bounds)
def test_the_largest_changes_of_all_sites_fit(sites: int, largest: float) -> None:
    for value in (largest, -largest):
        (word,) = encode_change(np.array([value]), sites=sites, largest=largest)
        total = np.array([(int(word) * sites) % 2**32], np.uint32)
        assert abs(int(np.int32(word.view(np.int32))) * sites) <= 2**31 - 1
        assert decode_change(total, sites=sites, largest=largest)[0] == pytest.approx(
            sites * value, abs=sites * 2.0 ** -change_bits(sites, largest) / 2
        )


@given(many, bounds)
def test_one_more_place_would_not_be_safe(sites: int, largest: float) -> None:
    assert sites * (math.ldexp(largest, change_bits(sites, largest) + 1) + 0.5) > 2**31 - 1


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=30), st.randoms())
def test_any_changes(values: list[float], random: object) -> None:
    sites = len(values)
    total = np.zeros(1, np.uint32)
    for value in values:
        total += encode_change(np.array([value]), sites=sites, largest=4.0)
    assert abs(decode_change(total, sites=sites, largest=4.0)[0] - math.fsum(values)) <= sites * 2.0 ** -change_bits(sites, 4.0) / 2


@given(st.lists(st.integers(-(2**50), 2**50), min_size=3, max_size=30))
def test_whole_numbers_are_exact(values: list[int]) -> None:
    total = sum(encode_exact(np.array([float(value)]), sites=len(values)) for value in values)
    assert decode_exact(np.asarray(total), sites=len(values))[0] == float(sum(values))


@given(st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=30))
def test_exact_numbers(values: list[float]) -> None:
    sites = len(values)
    total = np.asarray(sum(encode_exact(np.array([value]), sites=sites) for value in values))
    assert decode_exact(total, sites=sites)[0] == pytest.approx(math.fsum(values), rel=5e-16, abs=sites * 2.0 ** -rest_bits(sites))


@pytest.mark.parametrize("sites", [3, 4, 5, 7, 1000])
def test_the_largest_exact_numbers_of_all_sites_fit(sites: int) -> None:
    largest = math.floor(2.0**62 / sites / 4096) * 4096.0
    for value in (largest, -largest, 0.5, -0.5, 1.5):
        words = encode_exact(np.array([value]), sites=sites)
        assert all(abs(int(word)) * sites <= 2**62 for word in words.view(np.int64).ravel())
        total = np.array([[int(word) * sites % 2**64] for word in words.ravel()], np.uint64)
        assert decode_exact(total, sites=sites)[0] == pytest.approx(sites * value, rel=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 4.0001, -1e30])
def test_what_could_spoil_the_sum_is_refused(value: float) -> None:
    with pytest.raises(BadState):
        encode_change(np.array([0.0, value]), sites=3, largest=4.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**61])
def test_what_could_spoil_an_exact_sum_is_refused(value: float) -> None:
    with pytest.raises(BadState):
        encode_exact(np.array([0.0, value]), sites=3)
