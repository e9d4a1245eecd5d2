"""The middle of a few numbers: the network and the sort give what sorting gives, for every number of sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.strategies.ranks import NETWORK_SITES, network, ranks


@pytest.mark.parametrize("sites", [*range(1, NETWORK_SITES + 3), 64])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_all_ranks_are_the_sorted_rows(sites: int, dtype: type) -> None:
    values = (9 * np.random.default_rng(sites).standard_normal((sites, 50))).astype(dtype)  # with ties
    wanted = np.sort(values, axis=0)
    for first in range((sites + 1) // 2):
        found = np.array(list(ranks(values.copy(), first, sites - first)))
        np.testing.assert_array_equal(found, wanted[first : sites - first])


@given(st.integers(1, 12), st.data())
def test_the_network_sorts_all_zeros_and_ones(sites: int, data: st.DataObject) -> None:
    # A network that sorts every sequence of zeros and ones sorts everything (Knuth, theorem 5.3.4Z).
    first = data.draw(st.integers(0, sites - 1))
    stop = data.draw(st.integers(first + 1, sites))
    values = (np.arange(1 << sites) >> np.arange(sites)[:, None]) & 1
    found = np.array(list(ranks(values.copy(), first, stop)))
    np.testing.assert_array_equal(found, np.sort(values, axis=0)[first:stop])


def test_what_the_wanted_ranks_do_not_need_is_left_out() -> None:
    assert len(network(16, 7, 9)) < len(network(16, 0, 16)) == 63
    assert len(network(8, 0, 1)) == 7  # the least of eight takes seven comparisons
