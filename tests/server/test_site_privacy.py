"""The privacy of whole sites: what one site can change, what is noise, what is counted, and that canary sites are hidden as well as promised."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.privacy.canaries import Sighting, judge
from client.privacy.spending import Spend
from server.app import strategy_of
from server.strategies import site_privacy
from server.strategies.replies import Spool
from server.strategies.site_privacy import RELEASES, noisy_mean, site_epsilon, with_site_privacy
from server.strategies.strategy import Strategy
from shared_models.core.arrays import State
from shared_models.core.errors import BadChoice
from shared_models.core.randomness import SecretRandom
from shared_models.core.state import digest
from shared_models.experiment import Experiment, Privacy

CURRENT: State = {"w": np.array([1.0, 2.0], np.float32), "v": np.zeros(3, np.float32), "n": np.array(10)}
REPLIES: dict[str, State] = {
    "a": {"w": np.array([4.0, 6.0], np.float32), "v": np.zeros(3, np.float32), "n": np.array(11)},  # 5 long
    "b": {"w": np.array([1.0, 2.0], np.float32), "v": np.array([0.0, 0.5, 0.0], np.float32), "n": np.array(14)},
}
QUIET: dict[str, Any] = {"clip": 1.0, "sigma": 0.0, "secret": SecretRandom(bytes(32))}


def spool_of(folder: Path, replies: dict[str, State]) -> Spool:
    spool = Spool(folder)
    for site, state in replies.items():
        spool.add(site, state, num_cases=1000 if site == "a" else 1, steps=1)
    return spool


def experiment_of(strategy: str = "fedavg", model: str = "mil_cnn", **privacy: Any) -> Experiment:
    settings = {"unit": "site", "noise_multiplier": 1.0, **privacy}
    parts = {"strategy": {"name": strategy}} if strategy else {}
    return Experiment.model_validate({"name": "x", "data": {"classes": ["a", "b"]}, "model": {"name": model}, "privacy": settings, **parts})


def test_without_noise_it_is_the_mean_of_clipped_changes(tmp_path: Path) -> None:
    # a moves (3, 4), cut to (0.6, 0.8); b moves 0.5 in v: half of each, however many patients they have
    moved = noisy_mean(CURRENT, spool_of(tmp_path / "s", REPLIES), **QUIET)
    np.testing.assert_allclose(moved["w"], [1.3, 2.4], rtol=1e-6)
    np.testing.assert_allclose(moved["v"], [0, 0.25, 0], rtol=1e-6)
    assert moved["n"] == 10
    assert {key: value.dtype for key, value in moved.items()} == {key: value.dtype for key, value in CURRENT.items()}


def test_one_site_moves_the_sum_by_the_clip_at_most(tmp_path: Path) -> None:
    big = {**REPLIES, "c": {key: value * 1000 for key, value in REPLIES["a"].items()}}
    sums = [
        np.concatenate([(noisy_mean(CURRENT, spool_of(tmp_path / str(len(r)), r), **QUIET)[key] - CURRENT[key]) * len(r) for key in ("w", "v")])
        for r in (REPLIES, big)
    ]
    assert np.linalg.norm(sums[1] - sums[0]) == pytest.approx(1.0, rel=1e-5)


def test_a_site_without_a_change_and_one_without_numbers_add_nothing(tmp_path: Path) -> None:
    odd = {"a": CURRENT, "b": {**CURRENT, "v": np.full(3, np.nan, np.float32)}}
    moved = noisy_mean(CURRENT, spool_of(tmp_path / "s", odd), **QUIET)
    assert digest(moved) == digest(CURRENT)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_the_strategy_sees_one_noisy_mean(strategy: str, tmp_path: Path) -> None:
    wrapped = strategy_of(experiment_of(strategy, clip=0.5, noise_multiplier=1e-6), None)
    own = wrapped.start(CURRENT)
    state, own = wrapped.aggregate(CURRENT, own, spool_of(tmp_path / "s", REPLIES))
    assert own[RELEASES] == [1.0]
    assert state["n"] == 10
    assert not list(tmp_path.glob("*-mean"))
    again, own = wrapped.aggregate(state, own, spool_of(tmp_path / "t", REPLIES))
    assert own[RELEASES] == [2.0]
    if strategy != "fedadam":
        assert np.linalg.norm(state["w"] - CURRENT["w"]) == pytest.approx(0.25, rel=1e-3)
    assert digest(again) != digest(state)


def test_every_round_says_what_it_costs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrapped = strategy_of(experiment_of(delta=1e-3, noise_multiplier=1.5), None)
    own = wrapped.start(CURRENT)
    with caplog.at_level(logging.INFO, logger="fedild.server"):
        for number in range(2):
            _, own = wrapped.aggregate(CURRENT, own, spool_of(tmp_path / str(number), REPLIES))
    assert f"epsilon {site_epsilon(experiment_of(delta=1e-3, noise_multiplier=1.5).privacy, 2):.2f} at delta 0.001" in caplog.text
    for word in ("unit site", "one site added or removed, of 2", "accountant rdp", "sigma 1.5", "2 steps", "clip 1"):
        assert word in caplog.text


def test_two_rounds_differ_in_their_noise(tmp_path: Path) -> None:
    states = [
        strategy_of(experiment_of(), None).aggregate(CURRENT, {RELEASES: np.zeros(1)}, spool_of(tmp_path / str(i), REPLIES))[0] for i in range(2)
    ]
    assert digest(states[0]) != digest(states[1])


@pytest.mark.parametrize("model", ["forest", "texture_kernel"])
def test_only_weights_can_be_made_private_here(model: str) -> None:
    with pytest.raises(BadChoice, match="made on weights"):
        strategy_of(experiment_of("", model), None)


def test_a_server_that_sees_no_single_site_cannot_clip_it() -> None:
    experiment = experiment_of()
    hidden = Experiment.model_validate(experiment.model_dump(exclude_none=True) | {"federation": {"secure_sum": True}})
    with pytest.raises(BadChoice, match="site by site"):
        strategy_of(hidden, None)


def watch_sites(folder: Path, count: int, *, seed: int, rounds: int = 3) -> Sighting:
    """Canary sites through the wrapped strategy: each moves three clips along a direction of its own."""
    present = np.random.default_rng(seed).random(count) < 0.5
    privacy = Privacy(unit="site", noise_multiplier=2.0, clip=0.5)
    wrapped = with_site_privacy(Strategy(lambda current, own, spool: (next(iter(spool.states())), own)), privacy)
    start: State = {"w": np.zeros(count + 2000, np.float64)}
    state, own, moved = start, wrapped.start(start), np.zeros(count + 2000)
    for number in range(rounds):
        spool = Spool(folder / f"{seed}-{number}")
        for site in np.flatnonzero(present):
            reply = state["w"].copy()
            reply[site] += 3 * privacy.clip
            spool.add(f"s{site:05d}", {"w": reply}, num_cases=1, steps=1)
        after, own = wrapped.aggregate(state, own, spool)
        moved += (after["w"] - state["w"]) * present.sum() / privacy.clip
        state = after
        spool.clear()
    spends = tuple(Spend(2.0, 1.0, 1, int(present.sum()), "site", privacy.clip, privacy.delta, "") for _ in range(int(own[RELEASES][0])))
    return Sighting(moved[:count], present, moved[count:], spends)


SITE_SEEDS = (0, 1, 2)


def test_canary_sites_are_hidden_as_well_as_promised(tmp_path: Path) -> None:
    assert judge([watch_sites(tmp_path, 300, seed=seed) for seed in SITE_SEEDS]).faults() == []


def test_half_the_noise_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = SecretRandom.normal
    monkeypatch.setattr(site_privacy.SecretRandom, "normal", lambda self, count: 0.5 * right(self, count))
    assert judge([watch_sites(tmp_path, 300, seed=seed) for seed in SITE_SEEDS]).faults() != []


def test_a_missing_clip_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_privacy, "min", lambda one, factor: 1.0, raising=False)
    assert judge([watch_sites(tmp_path, 300, seed=seed) for seed in SITE_SEEDS]).faults() != []
