"""Compression: every packing keeps its bound, what it leaves out comes back through the residual, and no other arrays get through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_models.compression import COMPRESSIONS, Compression, compress, compression_of, decompress, packed_layout
from shared_models.core.choices import Choice
from shared_models.core.errors import BadChoice, BadState
from shared_models.core.state import digest, same_layout, size_bytes

LOSSY = [{"name": "fp16"}, {"name": "int8"}, {"name": "int8", "block": 16}, {"name": "top_k"}, {"name": "top_k", "keep": 0.5}]
VALUES = st.floats(-1e4, 1e4, width=32)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 300), elements=VALUES)


def packing(choice: dict[str, Any]) -> Compression:
    compression = compression_of(Choice.model_validate(choice))
    assert compression is not None
    return compression


def sent(change: np.ndarray, choice: dict[str, Any]) -> np.ndarray:
    compression = packing(choice)
    return compression.unpack(compression.pack(change), change.size)


@settings(max_examples=60, deadline=None)
@given(ARRAYS)
def test_fp16_is_within_its_bound(change: np.ndarray) -> None:
    error = np.abs(sent(change, {"name": "fp16"}).astype(np.float64) - change)
    assert (error <= np.maximum(2.0**-11 * np.abs(change), 2.0**-25 * np.abs(change).max()) * (1 + 1e-6) + 1e-35).all()


@settings(max_examples=60, deadline=None)
@given(ARRAYS)
def test_int8_is_within_its_bound(change: np.ndarray) -> None:
    block = 16
    error = np.abs(sent(change, {"name": "int8", "block": block}).astype(np.float64) - change)
    for start in range(0, change.size, block):
        part = slice(start, start + block)
        assert error[part].max() <= np.abs(change[part]).max() / 254 * (1 + 1e-4) + 1e-37


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_top_k_contracts(change: np.ndarray, keep: float) -> None:
    left = change.astype(np.float64) - sent(change, {"name": "top_k", "keep": keep})
    kept = max(1, int(np.ceil(keep * change.size))) / change.size
    assert (left**2).sum() <= (1 - kept) * (change.astype(np.float64) ** 2).sum() * (1 + 1e-6) + 1e-12
    # The slow, obvious way: no value that was left out is larger than one that was sent.
    mask = left == change
    if mask.any() and not mask.all():
        assert np.abs(change[mask]).max() <= np.abs(change[~mask]).min()


@settings(max_examples=40, deadline=None)
@given(ARRAYS, st.sampled_from(LOSSY))
def test_what_was_sent_and_what_was_left_are_the_change(change: np.ndarray, choice: dict[str, Any]) -> None:
    current = {"w": np.zeros_like(change)}
    packed, left = compress({"w": change}, current, {}, packing(choice))
    same_layout(packed, packed_layout(current, packing(choice)))
    back = decompress(packed, current, packing(choice))
    same_layout(back, current)
    np.testing.assert_allclose(back["w"].astype(np.float64) + left["w"], change, rtol=1e-6, atol=1e-4 * max(1e-6, float(np.abs(change).max())))


def model(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(0, 0.1, (40, 50)).astype(np.float32),
        "b": rng.normal(size=7).astype(np.float32),
        "scalar": np.asarray(rng.normal()),
        "count": np.array([seed, 3]),
        "none": np.zeros((0, 4), np.float32),
    }


@pytest.mark.parametrize("choice", LOSSY)
def test_states_of_every_kind_keep_their_layout(choice: dict[str, Any]) -> None:
    current, state, compression = model(0), model(1), packing(choice)
    packed, left = compress(state, current, {}, compression)
    back = decompress(packed, current, compression)
    same_layout(back, current)
    assert back["count"].tolist() == [1, 3]  # counters travel whole
    assert left.keys() == {"w", "b", "scalar"}
    assert digest(compress(state, current, {}, compression)[0]) == digest(packed)
    start = {key: value.copy() for key, value in current.items()}
    assert digest(start) == digest(current)  # nothing was changed in place


@pytest.mark.parametrize(("choice", "share"), [({"name": "fp16"}, 0.51), ({"name": "int8"}, 0.27), ({"name": "top_k"}, 0.21)])
def test_the_bytes_are_what_the_table_says(choice: dict[str, Any], share: float) -> None:
    state = {"w": np.random.default_rng(0).normal(size=(300, 400)).astype(np.float32)}
    packed, _ = compress(state, {"w": np.zeros((300, 400), np.float32)}, {}, packing(choice))
    assert size_bytes(packed) <= share * size_bytes(state)


@pytest.mark.parametrize("choice", LOSSY)
def test_the_residual_pays_back_what_was_left_out(choice: dict[str, Any]) -> None:
    # The same small change again and again: without the residual top_k would never send most of it.
    change, total, left = np.linspace(-1, 1, 200).astype(np.float32), np.zeros(200, np.float64), {}
    rounds = 60
    for _ in range(rounds):
        packed, left = compress({"w": change}, {"w": np.zeros_like(change)}, left, packing(choice))
        total += decompress(packed, {"w": np.zeros_like(change)}, packing(choice))["w"]
    np.testing.assert_allclose(total + left["w"], rounds * change, rtol=1e-3, atol=1e-2)
    assert np.abs(left["w"]).max() < 12  # bounded: at keep = 0.1 a value waits at most some ten rounds
    assert np.abs(total / rounds - change).max() < 0.2


def test_a_small_steady_change_behind_a_large_restless_one_arrives_only_with_the_residual() -> None:
    def arrived(feedback: bool) -> float:
        total, left, compression = 0.0, {}, packing({"name": "top_k", "keep": 0.5})
        for number in range(100):
            change, current = {"w": np.array([(-1.0) ** number, 0.1], np.float32)}, {"w": np.zeros(2, np.float32)}
            packed, rest = compress(change, current, left, compression)
            left = rest if feedback else {}
            total += float(decompress(packed, current, compression)["w"][1])
        return total

    assert arrived(False) == 0
    assert arrived(True) == pytest.approx(10, abs=1.2)


def _other(packed: dict[str, np.ndarray], key: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return {**packed, key: value}


@pytest.mark.parametrize(
    "forge",
    [
        lambda p: {k: v for k, v in p.items() if k != "value/b"},
        lambda p: _other(p, "value/extra", np.ones(3, np.float32)),
        lambda p: _other(p, "value/b", np.ones(2, np.float32)),
        lambda p: _other(p, "value/b", p["value/b"].astype(np.float64)),
        lambda p: _other(p, "index/b", np.array([-1], np.int32)),
        lambda p: _other(p, "index/b", np.array([7], np.int32)),
        lambda p: _other(p, "index/w", p["index/w"][::-1].copy()),
        lambda p: _other(p, "index/w", np.zeros_like(p["index/w"])),
        lambda p: _other(p, "whole/count", np.zeros(9, np.int64)),
    ],
)
def test_forged_packings_are_refused(forge: Any) -> None:
    packed, _ = compress(model(1), model(0), {}, packing({"name": "top_k"}))
    with pytest.raises(BadState):
        decompress(forge(packed), model(0), packing({"name": "top_k"}))


def test_not_a_number_stays_visible_to_the_check() -> None:
    for choice in LOSSY:
        current = {"w": np.zeros(40, np.float32)}
        packed, _ = compress({"w": np.ones(40, np.float32)}, current, {}, packing(choice))
        key = "scale/w" if "scale/w" in packed else "value/w"
        back = decompress({**packed, key: np.full_like(packed[key], np.nan)}, current, packing(choice))
        assert not np.isfinite(back["w"]).all()


def test_the_table() -> None:
    assert compression_of(Choice(name="none")) is None
    assert list(COMPRESSIONS) == ["none", "fp16", "int8", "top_k"]
    for bad in ({"name": "gzip"}, {"name": "top_k", "keep": 0}, {"name": "int8", "block": 3}, {"name": "fp16", "keep": 0.1}):
        with pytest.raises(BadChoice):
            compression_of(Choice.model_validate(bad))
