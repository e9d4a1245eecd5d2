"""The spool of replies: any order of arrival gives the same bits, the mean is the mean, memory stays flat."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from server.strategies.blocks import BLOCK
from server.strategies.replies import Spool
from shared_models.core.errors import BadState
from shared_models.core.state import digest

SITES = ["alpha", "beta", "gamma", "delta", "epsilon"]


def updates(seed: int = 0, size: int = 7) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {
        site: {
            "w": (rng.normal(size=(size, 3)) * 10.0 ** rng.integers(-4, 4)).astype(np.float32),
            "half": rng.normal(size=4).astype(np.float16),
            "double": rng.normal(size=()),
            "steps": rng.integers(0, 100, 2),
            "flag": rng.integers(0, 2, 3).astype(bool),
            "none": np.zeros((0, 4), np.float32),
        }
        for site in SITES
    }


def spooled(folder: Path, states: dict[str, dict[str, np.ndarray]], order: tuple[str, ...] | list[str]) -> Spool:
    spool = Spool(folder)
    for site in order:
        spool.add(site, states[site], num_cases=10 + len(site), steps=1)
    return spool


def test_all_120_orders_of_arrival_give_the_same_bits(tmp_path: Path) -> None:
    states, weights = updates(), [3.0, 1.0, 4.0, 1.5, 9.0]
    digests = set()
    for number, order in enumerate(itertools.permutations(SITES)):
        spool = spooled(tmp_path / str(number), states, order)
        assert [reply.site for reply in spool.replies] == sorted(SITES)
        digests.add(digest(spool.weighted_mean(states["alpha"], weights)))
    assert number == 119
    assert len(digests) == 1


def test_the_mean_is_the_slow_formula(tmp_path: Path) -> None:
    states, weights = updates(1), [3.0, 1.0, 4.0, 1.5, 9.0]
    result = spooled(tmp_path / "s", states, SITES).weighted_mean(states["alpha"], weights)
    for key, like in states["alpha"].items():
        exact = sum(w * states[site][key].astype(np.float64) for w, site in zip(weights, sorted(SITES), strict=True)) / sum(weights)
        assert result[key].dtype == like.dtype
        assert result[key].shape == like.shape
        if like.dtype.kind in "iub":
            np.testing.assert_array_equal(result[key], np.rint(exact).astype(like.dtype))
        else:
            np.testing.assert_allclose(result[key], exact, rtol=4 * np.finfo(like.dtype).eps)


def test_arrays_longer_than_a_block(tmp_path: Path) -> None:
    states = updates(2, size=BLOCK // 3 + 100)
    spool = spooled(tmp_path / "s", states, SITES)
    exact = np.mean([states[site]["w"].astype(np.float64) for site in SITES], axis=0)
    np.testing.assert_allclose(spool.weighted_mean(states["alpha"], [1.0] * 5)["w"], exact, rtol=1e-6, atol=1e-9)


def _peak(folder: Path, sites: int) -> int:
    size = 400_000
    like = {"w": np.zeros(size, np.float32)}
    spool = Spool(folder)
    for number in range(sites):
        spool.add(f"s{number:02d}", {"w": np.full(size, number, np.float32)}, num_cases=1, steps=1)
    tracemalloc.start()
    mean = spool.weighted_mean(like, [1.0] * sites)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mean["w"][0] == pytest.approx((sites - 1) / 2)
    return peak


def test_memory_does_not_grow_with_a_model_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each site costs one block buffer; a model a site would be 12 x 1.6 MB. By one thread: two do not always overlap.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    few, many = _peak(tmp_path / "4", 4), _peak(tmp_path / "16", 16)
    assert many - few < 12 * (BLOCK * 8 + 20_000)
    _peak(tmp_path / "again", 4)  # nothing is kept between calls
    assert _peak(tmp_path / "last", 4) < few * 1.2


def test_a_site_replies_once(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "s", updates(), ["alpha"])
    with pytest.raises(BadState, match="once"):
        spool.add("alpha", updates()["alpha"], num_cases=1, steps=1)


@pytest.mark.parametrize("weights", [[], [1.0] * 4, [0.0] * 5, [-1.0] * 5, [float("nan")] * 5])
def test_weights_that_give_no_mean(tmp_path: Path, weights: list[float]) -> None:
    spool = spooled(tmp_path / "s", updates(), SITES)
    with pytest.raises(BadState):
        spool.weighted_mean(updates()["alpha"], weights)
    with pytest.raises(BadState):
        Spool(tmp_path / "empty").weighted_mean(updates()["alpha"], [])


def test_a_reply_that_was_cut_on_disk_is_refused(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "s", updates(), SITES)
    path = spool.replies[0].path
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadState, match="whole"):
        spool.weighted_mean(updates()["alpha"], [1.0] * 5)


def test_clear_leaves_nothing(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "s", updates(), SITES)
    spool.clear()
    assert not (tmp_path / "s").exists()
    assert spool.replies == []
    spool.add("alpha", updates()["alpha"], num_cases=1, steps=1)
    assert [reply.site for reply in spool.replies] == ["alpha"]
