"""Arithmetic on states against the slow obvious way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_models.core.errors import BadState
from shared_models.core.state import add, digest, is_finite, norm, same_layout, scale, size_bytes, subtract

numbers = st.floats(-1e3, 1e3, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=numbers)
states = st.dictionaries(st.text("abc./", min_size=1, max_size=4), arrays, max_size=4)


@given(states)
def test_add_and_subtract_undo_each_other_at_zero(state: dict) -> None:
    zero = subtract(state, state)
    assert all(not value.any() for value in zero.values())
    assert digest(add(state, {key: np.zeros_like(value) for key, value in state.items()})) == digest({k: v + np.float32(0) for k, v in state.items()})


@given(states, st.floats(-10, 10))
def test_norm_and_scale(state: dict, factor: float) -> None:
    slow = math.sqrt(sum(float(x) ** 2 for value in state.values() for x in value.ravel()))
    assert norm(state) == pytest.approx(slow, rel=1e-9, abs=1e-12)
    scaled = scale(state, factor)
    assert {k: v.dtype for k, v in scaled.items()} == {k: v.dtype for k, v in state.items()}
    for key in state:
        np.testing.assert_allclose(scaled[key], state[key].astype(float) * factor, rtol=1e-5, atol=1e-6)


@given(states)
def test_digest_sees_every_bit_key_type_and_shape(state: dict) -> None:
    assert digest(state) == digest({key: state[key].copy() for key in sorted(state, reverse=True)})
    for key, value in state.items():
        others = [
            {**state, key: value.astype(np.float64)},
            {**state, key: value.reshape(1, *value.shape)},
            {k: v for k, v in state.items() if k != key},
        ]
        if value.size:
            changed = value.copy()
            changed.view(np.uint32).reshape(-1)[0] ^= 1
            others.append({**state, key: changed})
        assert all(digest(other) != digest(state) for other in others)


def test_norm_counts_in_float64_and_leaves_counters_out() -> None:
    assert norm({"w": np.full(4, 1e30, np.float32), "steps": np.array([7])}) == pytest.approx(2e30)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_is_finite(value: float) -> None:
    assert is_finite({"w": np.ones(2), "n": np.array([1])})
    assert not is_finite({"w": np.array([1.0, value])})


def test_size() -> None:
    assert size_bytes({"a": np.zeros(3, np.float32), "b": np.zeros((2, 2))}) == 44


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, "missing"),
        ({"w": np.zeros(2, np.float32), "x": np.zeros(1)}, "extra"),
        ({"w": np.zeros(1, np.float32)}, r"float32\[2\]"),
        ({"w": np.zeros(2)}, "float64"),
    ],
)
def test_layouts_that_differ(other: dict, words: str) -> None:
    like = {"w": np.zeros(2, np.float32)}
    with pytest.raises(BadState, match=words):
        same_layout(other, like)
    for operation in (add, subtract):
        with pytest.raises(BadState):
            operation(like, other)
